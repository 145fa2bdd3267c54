"""ProbCover, MaxHerding and UHerding by loops, on points of the circle."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from fkal.acquisition import coverage
from fkal.acquisition.coverage import select_maxherding, select_probcover, select_uherding
from fkal.core import facility_location
from fkal.core.calibration import temperature
from fkal.core.evidence import Calibrated, Outputs, Supervised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _all_candidates(monkeypatch):
    """Greedy over all candidates, so that a slow version is the same."""
    monkeypatch.setattr(coverage, "EPSILON", 1e-300)


def circle(angles: list[float]) -> Tensor:
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)


def supervised(pool: Tensor, labeled: Tensor, d: int = 3) -> Supervised:
    outputs = [Outputs(torch.zeros(len(rows), d, dtype=torch.float64), rows) for rows in (pool, labeled)]
    return Supervised(*outputs, torch.zeros(len(labeled), dtype=torch.long))


def gains(
    kernel: list[list[float]], weights: list[float], covered: list[float], open_rows: set[int]
) -> dict[int, float]:
    return {a: sum(w * max(0.0, k - c) for w, k, c in zip(weights, kernel[a], covered, strict=True)) for a in open_rows}


def assert_greedy(picks, kernel: list[list[float]], weights: list[float], covered: list[float]) -> None:
    left = set(range(len(kernel)))
    for position, score in zip(picks.positions.tolist(), picks.scores.tolist(), strict=True):
        now = gains(kernel, weights, covered, left)
        assert score == pytest.approx(max(now.values()), abs=1e-6)
        assert now[position] == pytest.approx(score, abs=1e-6)
        left.remove(position)
        covered = [max(c, k) for c, k in zip(covered, kernel[position], strict=True)]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a / a.norm() - b / b.norm()).norm())


def gaussian(rows: Tensor, targets: Tensor, radius: float) -> list[list[float]]:
    return [[math.exp(-((distance(a, t) / radius) ** 2)) for t in targets] for a in rows]


def best_of_labeled(kernel: list[list[float]], n: int) -> list[float]:
    return [max([0.0, *(row[t] for row in kernel)]) for t in range(n)]


@pytest.mark.parametrize("labeled", [0, 4])
def test_maxherding_covers_by_a_gaussian_of_radius_1(labeled):
    pool = 3 * torch.rand(14, 3, generator=seeded(1), dtype=torch.float64)
    known = torch.rand(labeled, 3, generator=seeded(2), dtype=torch.float64)
    picks = select_maxherding(supervised(pool, known), 6, seeded())
    covered = best_of_labeled(gaussian(known, pool, 1.0), 14)
    assert_greedy(picks, gaussian(pool, pool, 1.0), [1.0] * 14, covered)


@pytest.mark.parametrize("labeled", [0, 1, 5])
def test_uherding_weights_by_calibrated_margin_with_a_radius_from_the_labeled_images(labeled):
    pool = torch.rand(14, 3, generator=seeded(3), dtype=torch.float64)
    known = torch.rand(labeled, 3, generator=seeded(4), dtype=torch.float64)
    logits, validation = (4 * torch.randn(n, 3, generator=seeded(n), dtype=torch.float64) for n in (14, 60))
    y_v = torch.randint(3, (60,), generator=seeded(5))
    evidence = Calibrated(Outputs(logits, pool), Outputs(logits[:labeled], known), y_v[:labeled], validation, y_v)
    picks = select_uherding(evidence, 6, seeded())
    t = temperature(validation, y_v)
    assert t > 1
    radius = min(
        [1.0] if labeled < 2 else [distance(a, b) for a in known for b in known if a is not b and (a != b).any()]
    )
    weights = []
    for row in logits:
        second, first = (row / t).softmax(dim=0).sort().values[-2:].tolist()
        weights.append(1 - (first - second))
    covered = best_of_labeled(gaussian(known, pool, radius), 14)
    assert_greedy(picks, gaussian(pool, pool, radius), weights, covered)


def test_copies_among_the_labeled_images_have_no_say_in_the_radius(monkeypatch):
    monkeypatch.setattr(coverage, "rows_at_once", lambda m: 2)
    rows = circle([0.0, 0.0, 1.0, 1.3])
    assert coverage._smallest_distance(rows) == pytest.approx(distance(rows[2], rows[3]))
    assert coverage._smallest_distance(rows[:2]) == coverage._smallest_distance(rows[:0]) == 1.0


def test_uherding_takes_the_uncertain_one_of_two_alike_and_leaves_what_is_covered():
    pool = circle([0.0, 0.05, 2.0, 2.05, 4.0])
    sure, unsure = [9.0, 0.0], [0.1, 0.0]
    logits = torch.tensor([sure, unsure, unsure, sure, unsure], dtype=torch.float64)
    labeled = circle([3.95, 4.1])
    y_v = torch.tensor([0, 1] * 10)
    validation = torch.tensor([[3.0, 0.0], [0.0, 3.0]] * 10, dtype=torch.float64)  # right and not too sure
    evidence = Calibrated(Outputs(logits, pool), Outputs(logits[:2], labeled), y_v[:2], validation, y_v)
    assert sorted(select_uherding(evidence, 2, seeded()).positions.tolist()) == [1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_probcover_covers_by_balls_of_the_largest_radius_at_which_19_of_20_are_pure(seed, monkeypatch):
    """Three clusters of 20 on the circle, and how k-means sees them is given."""
    angles = [2.1 * c + float(x) for c in range(3) for x in 0.8 * torch.rand(20, generator=seeded(seed + c))]
    pool, of = circle(angles), torch.arange(60) // 20
    monkeypatch.setattr(coverage, "k_means", lambda rows, k, generator: of if k == 3 else None)
    known = circle([0.4])
    picks = select_probcover(supervised(pool, known), 5, seeded(seed))

    apart = [[distance(a, b) for b in pool] for a in pool]

    def purity(delta: float) -> float:
        balls = [[j for j in range(60) if apart[i][j] < delta] for i in range(60)]
        return sum(len({int(of[j]) for j in ball}) == 1 for ball in balls) / 60

    gaps = sorted(min(apart[i][j] for j in range(60) if of[j] != of[i]) for i in range(60))
    delta = max(gap for gap in gaps if purity(gap - 1e-9) >= 0.95) - 1e-9
    assert purity(delta) >= 0.95 > purity(delta + 0.02)
    balls = [[float(each < delta) for each in row] for row in apart]
    assert_greedy(picks, balls, [1.0] * 60, [float(distance(known[0], b) < delta) for b in pool])


def test_where_k_means_sees_one_cluster_a_ball_holds_everything():
    pool = torch.ones(9, 2, dtype=torch.float64)
    picks = select_probcover(supervised(pool, pool[:0]), 3, seeded())
    assert picks.scores.tolist() == [9.0, 0.0, 0.0]


@pytest.mark.parametrize("apart", [0.0, 1e-7, 1e-5, 1e-3])
def test_a_labeled_near_copy_changes_no_radius_and_no_image_covers_itself_less_than_wholly(apart):
    """In float32, where the distance of an image from itself is rounded to up to 7e-4."""
    draws = seeded(7)
    pool, known = (torch.nn.functional.normalize(torch.randn(n, 64, generator=draws), dim=1) for n in (300, 6))
    away = torch.nn.functional.normalize(known[:1] + apart * torch.randn(1, 64, generator=draws) / 8, dim=1)
    logits, validation = torch.randn(300, 3, generator=draws), torch.randn(60, 3, generator=draws)
    y_v = torch.randint(3, (60,), generator=draws)

    def picked(labeled: Tensor) -> Tensor:
        outputs = Outputs(logits, pool), Outputs(logits[: len(labeled)], labeled)
        return select_uherding(Calibrated(*outputs, y_v[: len(labeled)], validation, y_v), 40, seeded()).scores

    radius = coverage._smallest_distance(known)
    assert coverage._smallest_distance(torch.cat([known, away])) == pytest.approx(radius, abs=2e-3)
    assert_close(picked(torch.cat([known, away])), picked(known), rtol=1e-2, atol=1e-3)


def test_an_image_covers_itself_wholly_at_the_smallest_radius(monkeypatch):
    pool = torch.nn.functional.normalize(torch.randn(2000, 64, generator=seeded(8)), dim=1)
    monkeypatch.setattr(coverage, "FIRST_RADIUS", coverage.COPY)
    picks = select_maxherding(supervised(pool, pool[:0]), 2000, seeded())
    assert_close(picks.scores, torch.ones(2000))


def test_of_a_pool_that_is_too_large_a_drawn_part_stands_for_it(monkeypatch):
    monkeypatch.setattr(facility_location, "PAIRS_WORK", 12**2 * 130)
    pool = torch.rand(200, 2, generator=seeded(6), dtype=torch.float64)
    positions = select_maxherding(supervised(pool, pool[:0]), 8, seeded()).positions.tolist()
    assert len(set(positions)) == 8
    assert max(positions) > 20


@pytest.mark.parametrize("select", [select_maxherding, select_probcover])
def test_images_whose_features_are_all_zero_are_copies(select):
    """One of them stands for all, as one of as many equal ones would."""
    near = circle([0.01 * i for i in range(12)])
    zeros, ones = torch.zeros(12, 2, dtype=torch.float64), circle([math.pi] * 12)
    of_zeros, of_ones = (
        select(supervised(torch.cat([copies, near]), copies[:0]), 4, seeded()) for copies in (zeros, ones)
    )
    for picks in (of_zeros, of_ones):
        assert sum(position < 12 for position in picks.positions.tolist()) <= 1, picks


def test_a_row_of_zeros_is_one_away_from_a_unit_row():
    rows = torch.cat([circle([0.0, math.pi / 2]), torch.zeros(1, 2, dtype=torch.float64)])
    assert_close(coverage._squared(rows, rows), torch.cdist(rows, rows).square())
