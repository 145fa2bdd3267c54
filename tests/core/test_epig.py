"""EPIG by loops over images, targets, classes and networks; and what it is made to tell apart."""

import math

import pytest
import torch
from torch import Tensor

from fkal.core import epig as module
from fkal.core.epig import epig


def drawn(k: int, n: int, d: int, seed: int) -> Tensor:
    return (2 * torch.randn(k, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(dim=2)


def slow(p: Tensor, targets: Tensor) -> list[float]:
    """Equation 8 of the paper: the mean over targets of KL(p(y, y*) || p(y) p(y*))."""
    k, n, d = p.shape
    found = []
    for i in range(n):
        total = 0.0
        for t in range(targets.shape[1]):
            for y in range(d):
                for y_star in range(d):
                    joint = sum(float(p[s, i, y] * targets[s, t, y_star]) for s in range(k)) / k
                    apart = float(p[:, i, y].mean() * targets[:, t, y_star].mean())
                    total += joint * math.log(joint / apart)
        found.append(total / targets.shape[1])
    return found


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_it_is_the_mean_mutual_information_with_the_targets(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ENTRIES", block)
    p, targets = drawn(5, 7, 3, 1), drawn(5, 4, 3, 2)
    assert epig(p, targets).tolist() == pytest.approx(slow(p, targets))


def test_what_the_networks_disagree_on_without_a_bearing_on_the_targets_tells_nothing():
    """BALD is log 2 for both images; the first one's votes are the targets' votes, the second one's are not."""
    sure = torch.eye(2, dtype=torch.float64)
    votes = torch.tensor([0, 0, 1, 1])
    image = torch.stack([sure[votes], sure[torch.tensor([0, 1, 0, 1])]], dim=1)  # (k 2 d)
    assert epig(image, sure[votes][:, None]).tolist() == pytest.approx([math.log(2), 0.0])


def test_networks_that_agree_learn_nothing():
    p = drawn(1, 6, 3, 3).expand(4, 6, 3)
    assert epig(p, p[:, :2]).tolist() == pytest.approx([0.0] * 6, abs=1e-12)
    assert (epig(p.float(), p[:, :2].float()) >= 0).all()
