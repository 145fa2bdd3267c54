"""A pool of known probabilities."""

import math

import pytest
import torch

from fkal.acquisition.registry import ACQUISITIONS
from fkal.core.evidence import Predictions

POOL = torch.tensor([[0.98, 0.01, 0.01], [0.5, 0.49, 0.01], [0.42, 0.29, 0.29], [0.8, 0.1, 0.1], [0.6, 0.35, 0.05]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("name", "best_first"),
    [("least_confidence", [2, 1, 4, 3, 0]), ("margin", [1, 2, 4, 3, 0]), ("softmax_entropy", [2, 4, 1, 3, 0])],
)
def test_each_measure_has_its_own_order(name, best_first):
    picks = ACQUISITIONS[name].select(Predictions(POOL.log()), 5, seeded())
    assert picks.positions.tolist() == best_first
    assert (picks.scores.diff() <= 0).all()
    assert (picks.ranks, picks.targets) == (None, None)


@pytest.mark.parametrize("name", ["least_confidence", "margin", "softmax_entropy"])
def test_of_equals_the_order_of_the_pool_decides_nothing(name):
    tied = Predictions(torch.zeros(200, 4))
    picked = torch.cat([ACQUISITIONS[name].select(tied, 20, seeded(s)).positions for s in range(30)])
    assert abs(int((picked < 100).sum()) - 300) < 5 * 12.2  # binomial with p = 1 / 2


@pytest.mark.parametrize("name", ["least_confidence", "margin", "softmax_entropy", "balanced_margin"])
def test_logits_that_are_nan_are_refused(name):
    broken = POOL.log()
    broken[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"NaN"):
        ACQUISITIONS[name].select(Predictions(broken), 1, seeded())


def sure(name: str, row: list[float]) -> float:
    """What each measure's paper sorts by, of one image's probabilities; the least sure is picked."""
    first, second = sorted(row, reverse=True)[:2]
    return {
        "least_confidence": first,
        "margin": first - second,
        "softmax_entropy": sum(p * math.log(p) for p in row),
    }[name]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["least_confidence", "margin", "softmax_entropy"])
def test_picks_are_those_of_a_sorted_list(name, seed):
    logits = 2 * torch.randn(50, 6, generator=seeded(seed), dtype=torch.float64)
    rows = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in logits.tolist()]
    expected = sorted(range(50), key=lambda i: sure(name, rows[i]))[:15]
    assert ACQUISITIONS[name].select(Predictions(logits), 15, seeded()).positions.tolist() == expected
