import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from fkal.core.centers import farthest_first, k_center
from fkal.core.descriptors import Descriptors
from fkal.core.kernels import R_ZG, r_z


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def greedy(similarity: list[list[float]], first: int, p: int) -> list[int]:
    """The next is the one whose largest similarity to the chosen ones is smallest."""
    chosen = [first]
    while len(chosen) < p:
        rest = [t for t in range(len(similarity)) if t not in chosen]
        chosen.append(min(rest, key=lambda t: (max(similarity[c][t] for c in chosen), t)))
    return chosen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("combine", list(R_ZG))
def test_each_center_is_the_one_least_similar_to_those_before(raw, paper, combine, seed):
    targets = raw(9, seed=seed)
    rows = k_center(targets.descriptors, 6, kernel=R_ZG[combine], generator=seeded(seed)).tolist()
    assert rows == greedy(paper.r_zg(combine, targets, targets).tolist(), rows[0], 6)


def test_features_alone_give_centers_by_r_z(raw, paper):
    targets = raw(9, seed=5)
    rows = k_center(Descriptors.of(targets.z), 9, kernel=r_z, generator=seeded(1)).tolist()
    assert rows == greedy(paper.r(targets.z, targets.z).tolist(), rows[0], 9)


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_dissimilar_targets_the_smaller_row_is_taken(whole, seed):
    targets = whole(12, seed=seed)
    rows = k_center(targets, 12, kernel=r_z, generator=seeded(seed)).tolist()
    assert rows == greedy(r_z(targets, targets).tolist(), rows[0], 12)


@pytest.mark.parametrize("p", [1, 2, 7, 8])
def test_centers_are_distinct_even_among_identical_targets(p):
    targets = Descriptors.of({"fc": torch.tensor([[1.0, 2.0, 4.0]]).repeat(8, 1)})
    rows = k_center(targets, p, kernel=r_z, generator=seeded(0)).tolist()
    assert len(set(rows)) == p
    assert set(rows) <= set(range(8))


@pytest.mark.parametrize("seed", range(5))
def test_as_many_centers_as_clusters_take_one_of_each(seed):
    clusters = torch.arange(12) % 3
    targets = Descriptors.of({"fc": torch.eye(3)[clusters]})
    rows = k_center(targets, 3, kernel=r_z, generator=seeded(seed))
    assert sorted(clusters[rows].tolist()) == [0, 1, 2]


def test_the_generator_alone_decides_the_first_center(raw):
    targets = raw(4, seed=6).descriptors
    firsts = [int(k_center(targets, 1, kernel=r_z, generator=seeded(seed))[0]) for seed in range(40)]
    assert set(firsts) == {0, 1, 2, 3}
    assert firsts == [int(k_center(targets, 1, kernel=r_z, generator=seeded(seed))[0]) for seed in range(40)]


@pytest.mark.parametrize("p", [-1, 0, 5])
def test_more_centers_than_targets_or_none_are_refused(raw, p):
    with pytest.raises(ValueError, match=f"{p} centers of 4 targets; ask for 1 to 4"):
        k_center(raw(4, seed=7).descriptors, p, kernel=r_z, generator=seeded(0))


def features(n: int, width: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, width, generator=seeded(seed), dtype=dtype)


def whole_numbers(n: int, width: int, *, seed: int) -> Tensor:
    """On a small grid: equal distances and duplicates abound, and distances are exact up to the root."""
    return torch.randint(0, 3, (n, width), generator=seeded(seed)).float()


def core_set(pool: list[list[float]], labeled: list[list[float]], p: int, first: int | None = None):
    """Greedy k-center by brute force: of all distances to all that is covered, again at every pick."""
    picks, distances = [], []
    while len(picks) < p:
        rest = [i for i in range(len(pool)) if i not in picks]
        covered = labeled + [pool[i] for i in picks]
        if not covered:
            picks.append(first)
            distances.append(math.inf)
            continue
        gaps = {i: min(math.dist(pool[i], other) for other in covered) for i in rest}
        picks.append(max(rest, key=lambda i: (gaps[i], -i)))
        distances.append(gaps[picks[-1]])
    return picks, torch.tensor(distances, dtype=torch.float64)


@pytest.mark.parametrize(("n", "m"), [(12, 1), (12, 5), (30, 40), (60, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_each_pick_is_the_farthest_from_all_that_is_labeled_or_picked(n, m, seed):
    pool, labeled = features(n, 3, seed=seed), features(m, 3, seed=seed + 50)
    positions, distances = farthest_first(pool, labeled, 9, generator=seeded(0))
    picks, gaps = core_set(pool.tolist(), labeled.tolist(), 9)
    assert positions.tolist() == picks
    assert_close(distances.double(), gaps, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_with_nothing_labeled_the_first_is_random_and_the_rest_go_from_there(seed):
    pool = features(12, 3, seed=seed)
    positions, distances = farthest_first(pool, pool[:0], 12, generator=seeded(seed))
    picks, gaps = core_set(pool.tolist(), [], 12, first=int(positions[0]))
    assert positions.tolist() == picks
    assert_close(distances.double(), gaps, rtol=1e-4, atol=1e-5)


def test_with_nothing_labeled_the_generator_alone_decides_the_first():
    pool = features(4, 3, seed=0)
    firsts = [int(farthest_first(pool, pool[:0], 1, generator=seeded(seed))[0]) for seed in range(40)]
    assert set(firsts) == {0, 1, 2, 3}
    assert firsts == [int(farthest_first(pool, pool[:0], 1, generator=seeded(seed))[0]) for seed in range(40)]


def test_once_something_is_labeled_nothing_is_drawn():
    draws, untouched = seeded(1), seeded(1)
    farthest_first(features(6, 2, seed=1), features(1, 2, seed=2), 4, generator=draws)
    assert torch.equal(draws.get_state(), untouched.get_state())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), m=st.integers(1, 8), data=st.data())
def test_of_equally_far_images_the_smaller_position_is_taken_and_none_twice(seed, n, m, data):
    pool, labeled = whole_numbers(n, 2, seed=seed), whole_numbers(m, 2, seed=seed + 1)
    p = data.draw(st.integers(1, n))
    positions, distances = farthest_first(pool, labeled, p, generator=seeded(0))
    picks, gaps = core_set(pool.tolist(), labeled.tolist(), p)
    assert len(set(positions.tolist())) == p
    assert positions.tolist() == picks
    assert_close(distances.double(), gaps, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), block_entries=st.integers(1, 700))
def test_the_block_size_changes_no_pick(seed, block_entries):
    pool, labeled = features(40, 4, seed=seed), features(12, 4, seed=seed + 1)
    positions, distances = farthest_first(pool, labeled, 10, generator=seeded(0))
    again, gaps = farthest_first(pool, labeled, 10, generator=seeded(0), block_entries=block_entries)
    assert positions.tolist() == again.tolist()
    assert_close(distances, gaps, rtol=1e-4, atol=1e-5)


def test_a_pool_of_identical_images_is_picked_one_by_one():
    pool = torch.ones(7, 3)
    for labeled in (pool[:0], pool[:2]):
        positions, _ = farthest_first(pool, labeled, 7, generator=seeded(2))
        assert sorted(positions.tolist()) == list(range(7))


@pytest.mark.parametrize("offset", [0.0, 1.0, 10.0, 100.0, 1000.0])
def test_features_far_from_the_origin_have_the_distances_of_those_near_it(offset):
    """A large mean that all images share says nothing of how far they are apart."""
    pool, labeled = (offset + features(n, 8, seed=n, dtype=torch.float64) for n in (60, 40))
    positions, distances = farthest_first(pool.float(), labeled.float(), 10, generator=seeded(0))
    picks, gaps = core_set(pool.float().tolist(), labeled.float().tolist(), 10)
    assert positions.tolist() == picks
    assert_close(distances.double(), gaps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("place", [0, 17])
@pytest.mark.parametrize("length", [1.0, 1_000.0, 1e5])
@pytest.mark.parametrize("m", [0, 1, 40])
def test_an_image_far_from_all_others_changes_no_other_pick(place, length, m):
    """Wherever it is, and where two more are near it, whose distance no product of such lengths can tell."""
    pool, labeled = (features(n, 8, seed=n, dtype=torch.float64) for n in (60, 40))
    away = 1 + length * torch.nn.functional.normalize(torch.ones(8, dtype=torch.float64), dim=0)
    pool[place], pool[40], pool[41] = away, away + 0.3 * pool[40], away - 0.4 * pool[41]
    pool, labeled = pool.float(), labeled[:m].float()
    positions, distances = farthest_first(pool, labeled, 25, generator=seeded(0))
    picks, gaps = core_set(pool.tolist(), labeled.tolist(), 25, first=int(positions[0]))
    assert positions.tolist() == picks
    assert_close(distances.double(), gaps, rtol=1e-3, atol=1e-4)


def test_an_image_that_is_labeled_already_is_at_distance_zero():
    pool = 5 + features(50, 6, seed=3)
    _, distances = farthest_first(pool, pool.flip(0), 3, generator=seeded(0))
    assert_close(distances, torch.zeros(3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("p", [-1, 0, 6])
def test_more_picks_than_the_pool_has_or_none_are_refused(p):
    with pytest.raises(ValueError, match=f"{p} picks of a pool of 5; ask for 1 to 5"):
        farthest_first(features(5, 2, seed=4), features(2, 2, seed=5), p, generator=seeded(0))


@pytest.mark.parametrize("where", ["pool", "labeled"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_feature_that_is_not_finite_is_refused(bad, where):
    pool, labeled = features(5, 2, seed=6), features(3, 2, seed=7)
    {"pool": pool, "labeled": labeled}[where][2, 1] = bad
    with pytest.raises(ValueError, match="a feature is NaN or infinite; check the model's outputs"):
        farthest_first(pool, labeled, 2, generator=seeded(0))


def test_features_whose_squares_are_infinite_are_refused():
    """All differences would be NaN, and the same image the farthest again and again."""
    pool = torch.randn(50, 4, generator=seeded(0)) * 1e20
    for labeled in (pool[:0], pool[:3]):
        with pytest.raises(ValueError, match="square is infinite"):
            farthest_first(pool, labeled, 5, generator=seeded(0))
    assert len(set(farthest_first(pool.double(), pool[:0].double(), 5, generator=seeded(0))[0].tolist())) == 5
