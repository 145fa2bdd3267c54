"""Lazy greedy over all candidates against greedy that works every gain out, and against the best choice of all."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fkal.core import facility_location as module
from fkal.core.facility_location import EPSILON, facility_location, max_pool, max_targets, subsample

ALL = 1e-300
"""An epsilon at which every candidate is looked at every time."""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def value(kernel: Tensor, picked: list[int], weights: Tensor, covered: Tensor, bonus: Tensor) -> float:
    total = 0.0
    for t in range(kernel.shape[1]):
        total += float(weights[t]) * max([float(covered[t]), *(float(kernel[a, t]) for a in picked)])
    return total + sum(float(bonus[a]) for a in picked)


def made(n: int, m: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draws = seeded(seed)
    shapes = ((n, m), (m,), (m,), (n,))
    kernel, weights, covered, bonus = (torch.rand(shape, generator=draws, dtype=torch.float64) for shape in shapes)
    return kernel, weights, covered * 0.3, bonus * 0.2


def test_many_targets_make_no_product_of_few_candidates_and_change_no_pick(monkeypatch):
    kernel, weights, covered, bonus = made(200, 50, 3)
    asked: list[int] = []

    def similarity(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return kernel[rows]

    def picked() -> Tensor:
        asked.clear()
        found = facility_location(
            similarity, 200, 5, weights=weights, covered=covered, bonus=bonus, generator=seeded(), epsilon=ALL
        )
        return found.positions

    whole = picked()
    assert asked[0] == 200
    monkeypatch.setattr(module, "CACHED_ENTRIES", 100)
    assert torch.equal(picked(), whole) and asked[:4] == [64, 64, 64, 8]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 40), m=st.integers(1, 12), share=st.floats(0, 1), seed=st.integers(0, 999))
def test_lazy_picks_are_greedy_picks(n, m, share, seed):
    kernel, weights, covered, bonus = made(n, m, seed)
    p = max(1, int(share * n))
    picks = facility_location(
        lambda rows: kernel[rows],
        n,
        p,
        weights=weights,
        covered=covered,
        bonus=bonus,
        generator=seeded(seed),
        epsilon=ALL,
    )
    picked: list[int] = []
    for position, score in zip(picks.positions.tolist(), picks.scores.tolist(), strict=True):
        before = value(kernel, picked, weights, covered, bonus)
        gains = {a: value(kernel, [*picked, a], weights, covered, bonus) - before for a in set(range(n)) - set(picked)}
        assert score == pytest.approx(max(gains.values()), abs=1e-12)
        assert gains[position] == pytest.approx(max(gains.values()), abs=1e-12)
        picked.append(position)


def test_greedy_over_drawn_candidates_is_as_near_to_the_best_choice_as_is_proved():
    """In the mean over seeds, for two thirds of the candidates a pick."""
    reached, best = 0.0, 0.0
    for seed in range(20):
        kernel, weights, covered, bonus = made(11, 7, seed)
        picks = facility_location(
            lambda rows, kernel=kernel: kernel[rows], 11, 4, weights=weights, covered=covered, bonus=bonus,
            generator=seeded(seed), epsilon=0.1,
        )  # fmt: skip
        nothing = value(kernel, [], weights, covered, bonus)
        reached += value(kernel, picks.positions.tolist(), weights, covered, bonus) - nothing
        best += max(value(kernel, list(four), weights, covered, bonus) for four in combinations(range(11), 4)) - nothing
    assert (1 - math.exp(-1) - 0.1) * best <= reached <= best


def full_greedy(kernel: Tensor, p: int) -> float:
    """The value that greedy over all candidates reaches, with every gain worked out for every pick."""
    covered, is_open = torch.zeros(kernel.shape[1]).double(), torch.ones(len(kernel), dtype=torch.bool)
    for _ in range(p):
        gains = torch.where(is_open, (kernel - covered).clamp(min=0).sum(dim=1), -1)
        is_open[gains.argmax()] = False
        covered = torch.maximum(covered, kernel[gains.argmax()])
    return float(covered.sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", ["unlike", "clusters"])
def test_drawn_candidates_keep_99_of_100_of_what_greedy_over_all_of_them_reaches(seed, shape):
    """About half of them for each pick, of targets that have nothing or much in common."""
    draws = seeded(seed)
    rows, targets = (torch.randn(count, 8, generator=draws, dtype=torch.float64) for count in (3000, 300))
    if shape == "clusters":
        centers = 2 * torch.randn(10, 8, generator=draws, dtype=torch.float64)
        rows, targets = (
            block + centers[torch.randint(10, (len(block),), generator=draws)] for block in (rows, targets)
        )
    kernel = (-torch.cdist(rows, targets).square() / 8).exp()
    ones, zeros = torch.ones(300).double(), torch.zeros(300).double()
    picks = facility_location(lambda r: kernel[r], 3000, 60, weights=ones, covered=zeros, generator=seeded(seed))
    assert float(kernel[picks.positions].amax(dim=0).sum()) > 0.99 * full_greedy(kernel, 60)


@pytest.mark.parametrize("kernel", [torch.ones(60, 4), torch.eye(60), torch.zeros(60, 4)])
def test_equal_gains_come_in_a_drawn_order_and_come_to_an_end(kernel):
    """More equals than are worked out at once."""
    firsts = set()
    for seed in range(6):
        m = kernel.shape[1]
        picks = facility_location(
            lambda rows: kernel[rows], 60, 60, weights=torch.ones(m), covered=torch.zeros(m), generator=seeded(seed)
        )
        assert sorted(picks.positions.tolist()) == list(range(60))
        firsts.add(int(picks.positions[0]))
    assert len(firsts) > 3


@pytest.mark.parametrize(("radius", "most"), [(3.0, 1.3), (1e6, -math.log(EPSILON) + 0.1)])
def test_few_gains_are_worked_out_anew_and_never_more_than_are_drawn(radius, most):
    """Per candidate: what is far from a pick keeps its bound; where nothing is far, drawing bounds the work."""
    n, asked = 2000, []
    places = torch.arange(n).double()

    def near(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return (-(((places[rows, None] - places) / radius) ** 2)).exp()

    facility_location(near, n, 40, weights=torch.ones(n).double(), covered=torch.zeros(n).double(), generator=seeded())
    assert sum(asked) < most * n + 40 * 32


def test_a_similarity_that_is_nan_is_refused():
    kernel = torch.ones(3, 2)
    kernel[1, 1] = torch.nan
    with pytest.raises(ValueError, match="a similarity is NaN"):
        facility_location(
            lambda rows: kernel[rows], 3, 1, weights=torch.ones(2), covered=torch.zeros(2), generator=seeded()
        )


def test_targets_are_capped_by_the_picks_and_a_pool_that_covers_itself_by_its_pairs(monkeypatch):
    assert [max_targets(p) for p in (1, 125, 375, 1250, 64_000)] == [3000, 3000, 3000, 10_000, 512_000]
    monkeypatch.setattr(module, "PAIRS_WORK", 6_000)
    monkeypatch.setattr(module, "BESIDE_PRODUCT", 4)
    assert max_pool(3, 6) == 24  # the root of 6,000 / 10
    assert max_pool(30, 6) == 30


def test_a_subsample_is_drawn_without_repeats_and_sorted():
    assert subsample(5, 9, seeded()).tolist() == [0, 1, 2, 3, 4]
    drawn = subsample(50, 9, seeded()).tolist()
    assert drawn == sorted(set(drawn)) and len(drawn) == 9


@pytest.mark.parametrize("seed", range(3))
def test_kept_similarities_are_worked_out_once_and_change_no_pick(seed, monkeypatch):
    kernel = torch.rand(200, 40, generator=seeded(seed)).double()
    ones, zeros = torch.ones(40).double(), torch.zeros(40).double()
    asked: list[int] = []

    def similarity(rows: torch.Tensor) -> torch.Tensor:
        asked.extend(rows.tolist() if len(rows) > 1 else [])  # one alone is the pick that covers from now on
        return kernel[rows]

    picks = [
        facility_location(similarity, 200, 12, weights=ones, covered=zeros, generator=seeded(seed), keep=keep)
        for keep in (True, False)
    ]
    assert picks[0].positions.tolist() == picks[1].positions.tolist()
    assert torch.equal(picks[0].scores, picks[1].scores)
    once = asked[: len(set(asked))]
    assert sorted(once) == sorted(set(asked))
    assert len(asked) > 2 * len(once)  # without keeping, old gains are worked out again
    monkeypatch.setattr("fkal.core.facility_location.KEPT_ENTRIES", 200 * 40 - 1)
    asked.clear()
    facility_location(similarity, 200, 12, weights=ones, covered=zeros, generator=seeded(seed), keep=True)
    assert len(asked) > len(set(asked))  # there are more than may be kept
