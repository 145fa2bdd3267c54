"""Factors against the gradients that autograd builds."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from fkal.core.evidence import Outputs
from fkal.core.gradients import Gradients, hypothesised


def made(n: int, *, seed: int) -> tuple[Outputs, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    features, weight = torch.randn(n, 4, generator=draws).double(), torch.randn(3, 4, generator=draws).double()
    return Outputs(features @ weight.T, features), weight


def built(outputs: Outputs, weight: Tensor, y: Tensor) -> Tensor:
    """(n d*l), image by image."""
    rows = []
    for b, label in zip(outputs.features, y, strict=True):
        w = weight.clone().requires_grad_()
        rows.append(torch.autograd.grad(F.cross_entropy((w @ b)[None], label[None]), w)[0].flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("seed", range(3))
def test_products_and_norms_are_those_of_the_built_gradients(seed):
    some, weight = made(6, seed=seed)
    y = torch.arange(6) % 3
    rows, factors = built(some, weight, y), Gradients.of(some, y)
    assert_close(factors.squared_norm, (rows**2).sum(dim=1))
    for row in range(6):
        assert_close(factors.products(torch.tensor(row)), rows @ rows[row])


def test_hypothesised_labels_are_the_models_own():
    outputs, _ = made(7, seed=4)
    by_hand = Gradients.of(outputs, outputs.logits.argmax(dim=1))
    for mine, theirs in zip(hypothesised(outputs), by_hand, strict=True):
        assert torch.equal(mine, theirs)


def test_an_image_that_the_model_is_certain_of_has_no_gradient():
    outputs = Outputs(torch.tensor([[1e4, 0.0], [0.0, 0.0]]), torch.ones(2, 3))
    gradients = hypothesised(outputs)
    assert gradients.squared_norm[0] == 0
    assert gradients.products(torch.tensor(0)).tolist() == [0.0, 0.0]
