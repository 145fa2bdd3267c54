"""Passes made by hand, so that every measure's picks are known."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from fkal.acquisition.registry import ACQUISITIONS
from fkal.core.uncertainty import uncertainty

SURE, FLAT = [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]


def one_hot(label: int) -> list[float]:
    return [float(c == label) for c in range(4)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def passes(*images: list[list[float]]) -> Tensor:
    """(k n d) from each image's own passes."""
    return torch.tensor(images, dtype=torch.float64).transpose(0, 1)


KNOWN = passes(
    [SURE, SURE, SURE, SURE],
    [one_hot(0), one_hot(1), one_hot(2), one_hot(3)],  # each pass is sure of another class
    [FLAT, FLAT, FLAT, FLAT],  # all passes are equally unsure
    [SURE, SURE, SURE, one_hot(1)],
    [[0.55, 0.45, 0, 0], [0.45, 0.55, 0, 0], [0.55, 0.45, 0, 0], [0.45, 0.55, 0, 0]],  # a close call
)


@pytest.mark.parametrize(
    ("name", "best_first"),
    [
        ("varr", [1, 4, 3]),  # 3/4, 1/2, 1/4 of the votes are not for the winner; flat passes all vote for class 0
        ("entropy", [{1, 2}, {1, 2}, 4, 3]),  # log 4 twice, log 2, 0.56
        ("bald", [1, 3, 4]),  # log 4, 0.56, 0.005
        ("mean_std", [1, 3, 4]),  # 0.43, 0.22, 0.025
    ],
)
def test_the_images_that_a_measure_is_made_to_find_are_picked_best_first(name, best_first):
    picks = ACQUISITIONS[name].select(uncertainty(KNOWN), len(best_first), seeded())
    for position, expected in zip(picks.positions.tolist(), best_first, strict=True):
        assert position in (expected if isinstance(expected, set) else {expected})
    assert (picks.scores.diff() <= 1e-12).all()
    assert (picks.ranks, picks.targets) == (None, None)


def test_images_that_every_pass_is_sure_of_come_last():
    for name in ("varr", "entropy", "bald", "mean_std"):
        positions = ACQUISITIONS[name].select(uncertainty(KNOWN), 5, seeded()).positions.tolist()
        sure = {"varr": {0, 2}, "entropy": {0}, "bald": {0, 2}, "mean_std": {0, 2}}[name]
        assert set(positions[-len(sure) :]) == sure


def test_vote_shares_of_a_pool_sorted_by_class_do_not_favour_its_beginning():
    tied = passes(*[[one_hot(0), one_hot(1)]] * 200)
    picked = torch.cat([ACQUISITIONS["varr"].select(uncertainty(tied), 20, seeded(s)).positions for s in range(30)])
    # of 600 picks, binomial with p = 1 / 2, standard deviation 12.2
    assert abs(int((picked < 100).sum()) - 300) < 5 * 12.2


@pytest.mark.parametrize("name", ["varr", "entropy", "bald", "mean_std"])
def test_probabilities_that_are_nan_are_refused(name):
    broken = KNOWN.clone()
    broken[1, 2] = torch.nan
    with pytest.raises(ValueError, match="a score is NaN; check the model's outputs"):
        ACQUISITIONS[name].select(uncertainty(broken), 1, seeded())


def unsure(name: str, rows: list[list[float]]) -> float:
    """A measure of one image as the published program of the Fisher kernel writes it: in bits, and unbiased."""
    k, classes = len(rows), range(len(rows[0]))
    mean = [sum(row[c] for row in rows) / k for c in classes]
    entropy = -sum(p * math.log2(p + 1e-8) for p in mean)
    within = sum(p * math.log2(p + 1e-8) for row in rows for p in row) / k
    votes = [sum(row[c] == max(row) for row in rows) / k for c in classes]
    spread = [statistics.stdev(row[c] for row in rows) for c in classes]
    return {
        "varr": 1 - max(votes),
        "entropy": entropy,
        "bald": entropy + within,
        "mean_std": sum(spread) / len(spread),
    }[name]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["varr", "entropy", "bald", "mean_std"])
def test_picks_are_those_of_the_published_program(name, seed):
    p = (2 * torch.randn(9, 30, 4, generator=seeded(seed), dtype=torch.float64)).softmax(dim=2)
    found = [unsure(name, p[:, i].tolist()) for i in range(30)]
    picked = ACQUISITIONS[name].select(uncertainty(p), 12, seeded()).positions.tolist()
    assert [found[i] for i in picked] == pytest.approx(sorted(found, reverse=True)[:12])  # vote shares have equals
