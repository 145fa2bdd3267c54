import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from fkal.models.ensemble import Ensemble, members_of
from fkal.models.registry import build

SHAPE = (1, 8, 8)


def some_input(n: int = 5) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def some_members(n: int) -> list[nn.Module]:
    return [build("lenet", SHAPE, 3).eval() for _ in range(n)]


@pytest.mark.parametrize("n_members", [1, 2, 4])
def test_its_output_is_the_log_of_the_members_mean_probabilities(n_members):
    members, x = some_members(n_members), some_input()
    said = Ensemble(members)(x).double()
    for i in range(len(x)):
        expected = torch.zeros(3, dtype=torch.float64)
        for member in members:
            logits = member(x[i : i + 1])[0].tolist()
            total = sum(math.exp(v) for v in logits)
            expected += torch.tensor([math.exp(v) / total / n_members for v in logits], dtype=torch.float64)
        assert_close(said[i], expected.log(), rtol=1e-4, atol=1e-5)


def test_its_output_is_normalised_so_that_softmax_gives_the_mean_back():
    members, x = some_members(3), some_input()
    mean = torch.stack([member(x).softmax(dim=1) for member in members]).mean(dim=0)
    assert_close(Ensemble(members)(x).exp().sum(dim=1), torch.ones(5))
    assert_close(Ensemble(members)(x).softmax(dim=1), mean)


def test_members_that_are_sure_of_different_classes_leave_no_infinity():
    class Constant(nn.Module):
        def __init__(self, logits: list[float]) -> None:
            super().__init__()
            self.logits = torch.tensor([logits])

        def forward(self, x: Tensor) -> Tensor:
            return self.logits.expand(len(x), -1)

    ensemble = Ensemble([Constant([1000.0, 0.0, 0.0]), Constant([0.0, 1000.0, 0.0])])
    assert_close(ensemble(some_input(1)).softmax(dim=1), torch.tensor([[0.5, 0.5, 0.0]]))


def test_the_members_are_the_models_that_it_was_made_of_and_hold_all_its_weights():
    members = some_members(3)
    ensemble = Ensemble(members)
    assert all(a is b for a, b in zip(members_of(ensemble), members, strict=True))
    assert sum(p.numel() for p in ensemble.parameters()) == 3 * sum(p.numel() for p in members[0].parameters())
    names = {f"members.{e}.{name}" for e in range(3) for name in members[0].state_dict()}
    assert set(ensemble.state_dict()) == names


def test_a_model_that_is_no_ensemble_is_its_own_only_member():
    (model,) = some_members(1)
    (member,) = members_of(model)
    assert member is model


def test_modes_reach_every_member():
    ensemble = Ensemble(some_members(2)).train()
    assert all(member.training for member in members_of(ensemble))
    assert not any(member.training for member in members_of(ensemble.eval()))
