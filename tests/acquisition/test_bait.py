"""Greedy forth and back with matrices that are built and inverted each time; a pool of two directions."""

import pytest
import torch
from torch import Tensor

from fkal.acquisition.bait import select
from fkal.core.evidence import Outputs, Supervised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outputs_of(n: int, seed: int) -> Outputs:
    logits, features = (torch.randn(n, width, generator=seeded(seed), dtype=torch.float64) for width in (3, 4))
    return Outputs(2 * logits, features)


def information(logits: Tensor, b: Tensor) -> Tensor:
    p = logits.softmax(dim=0)
    return torch.stack([p[c] * (1 - p[c]) * torch.outer(b, b) for c in range(3)])


def slow(pool: Outputs, labeled: Outputs, p: int) -> set[int]:
    of_pool = [information(*pair) for pair in zip(pool.logits, pool.features, strict=True)]
    of_labeled = [information(*pair) for pair in zip(labeled.logits, labeled.features, strict=True)]
    total = len(of_labeled) + p
    f = torch.stack([*of_pool, *of_labeled]).mean(dim=0)

    def trace(picked: list[int]) -> float:
        """The authors' program scales their mean by L / (L + P) and each pick by P / (L + P)."""
        m = torch.eye(4, dtype=torch.float64) + torch.stack(of_labeled).mean(dim=0) * len(of_labeled) / total
        m = m + sum(of_pool[i] for i in picked) * p / total
        return float((torch.linalg.inv(m) @ f).diagonal(dim1=1, dim2=2).sum())

    picked: list[int] = []
    for _ in range(2 * p):
        picked.append(min(set(range(len(of_pool))) - set(picked), key=lambda i: trace([*picked, i])))
    while len(picked) > p:
        picked.remove(min(picked, key=lambda i: trace([j for j in picked if j != i])))
    return set(picked)


@pytest.mark.parametrize("seed", range(4))
def test_it_picks_what_greedy_forth_and_back_picks(seed):
    pool, labeled = outputs_of(12, seed), outputs_of(5, seed + 20)
    y = torch.zeros(5, dtype=torch.long)
    picks = select(Supervised(pool, labeled, y), 4, seeded())
    assert set(picks.positions.tolist()) == slow(pool, labeled, 4)


def test_a_direction_that_no_label_tells_of_is_picked_first():
    """Pool images along two axes, labels along the first alone."""
    axes = torch.eye(2)
    pool = Outputs(torch.zeros(20, 2), 5 * axes[[0, 1] * 10] + 0.01 * torch.rand(20, 2, generator=seeded()))
    labeled = Outputs(torch.zeros(30, 2), 5 * axes[[0] * 30])
    picks = select(Supervised(pool, labeled, torch.zeros(30, dtype=torch.long)), 3, seeded())
    assert all(i % 2 == 1 for i in picks.positions.tolist())
