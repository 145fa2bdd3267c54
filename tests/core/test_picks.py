import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fkal.core.kernels import R_ZG, r_z, top_matches
from fkal.core.picks import best_distinct, distinct, largest


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rank_by_rank(scores: list[list[float]], p: int) -> list[tuple[int, int, float, int]]:
    """(position, rank, score, target): every center's best match, then every second-best, and so on."""
    m, n = len(scores), len(scores[0])
    order = [sorted(range(n), key=lambda i, row=row: (-row[i], i)) for row in scores]
    picks: list[tuple[int, int, float, int]] = []
    taken: set[int] = set()
    for rank in range(n):
        for t in sorted(range(m), key=lambda t, rank=rank: (-scores[t][order[t][rank]], t)):
            i = order[t][rank]
            if i not in taken:
                taken.add(i)
                picks.append((i, rank, scores[t][i], t))
    return picks[:p]


def listed(picks) -> list[tuple[int, int, float, int]]:
    columns = (picks.positions, picks.ranks, picks.scores, picks.targets)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("p", [1, 3, 4, 5, 11, 20])
@pytest.mark.parametrize("combine", list(R_ZG))
def test_picks_are_those_of_the_full_matrix_rank_by_rank(raw, paper, combine, p):
    targets, pool = raw(4, seed=0), raw(20, seed=1)
    picks = best_distinct(targets.descriptors, pool.descriptors, p, kernel=R_ZG[combine])
    positions, ranks, scores, rows = zip(*rank_by_rank(paper.r_zg(combine, targets, pool).tolist(), p), strict=True)
    assert picks.positions.tolist() == list(positions)
    assert picks.ranks.tolist() == list(ranks)
    assert picks.targets.tolist() == list(rows)
    assert_close(picks.scores.double(), torch.tensor(scores, dtype=torch.float64), rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 6), n=st.integers(1, 20), data=st.data())
def test_ties_within_a_rank_go_to_the_smaller_target_and_within_a_target_to_the_smaller_position(
    whole, seed, m, n, data
):
    targets, pool = whole(m, seed=seed), whole(n, seed=seed + 1)
    p = data.draw(st.integers(1, n))
    picks = best_distinct(targets, pool, p, kernel=r_z)
    assert listed(picks) == rank_by_rank(r_z(targets, pool).tolist(), p)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 5), n=st.integers(2, 20), data=st.data())
def test_the_starting_width_changes_no_pick(whole, seed, m, n, data):
    targets, pool = whole(m, seed=seed), whole(n, seed=seed + 1)
    p = data.draw(st.integers(1, n))
    expected = listed(best_distinct(targets, pool, p, kernel=r_z, width=n))
    for width in (1, 2, 3, n + 5):
        assert listed(best_distinct(targets, pool, p, kernel=r_z, width=width)) == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 6), n=st.integers(1, 15), data=st.data())
def test_distinct_names_no_position_twice_and_stops_at_p(whole, seed, m, n, data):
    targets, pool = whole(m, seed=seed), whole(n, seed=seed + 1)
    k = data.draw(st.integers(1, n))
    p = data.draw(st.integers(1, 2 * n))
    matches = top_matches(targets, pool, k, kernel=r_z)
    positions = distinct(matches, p).positions.tolist()
    available = set(matches.positions.flatten().tolist())
    assert len(positions) == len(set(positions)) == min(p, len(available))
    assert set(positions) <= available


def test_targets_that_all_want_the_same_images_still_get_p_distinct_ones(table):
    kernel = table(torch.arange(50.0).repeat(8, 1))
    picks = best_distinct(kernel.targets, kernel.pool, 50, kernel=kernel, width=1)
    assert picks.positions.tolist() == list(range(49, -1, -1))
    assert picks.ranks.tolist() == list(range(50))
    assert picks.targets.tolist() == [0] * 50


def test_a_weaker_best_match_comes_before_a_stronger_second_best(table):
    kernel = table(torch.tensor([[9.0, 8.0, 0.0], [0.0, 0.0, 1.0]]))
    picks = best_distinct(kernel.targets, kernel.pool, 3, kernel=kernel)
    assert listed(picks) == [(0, 0, 9.0, 0), (2, 0, 1.0, 1), (1, 1, 8.0, 0)]


@pytest.mark.parametrize("p", [-1, 0, 6])
def test_more_picks_than_the_pool_has_or_none_are_refused(raw, p):
    with pytest.raises(ValueError, match=f"{p} picks of a pool of 5; ask for 1 to 5"):
        best_distinct(raw(2, seed=2).descriptors, raw(5, seed=3).descriptors, p, kernel=r_z)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 15), seed=st.integers(0, 1000))
def test_the_largest_scores_are_picked_best_first(data, n, seed):
    some = st.sampled_from([float("-inf"), -1.5, -0.0, 0.0, 2.0**-90, 2.0, float("inf")])
    values = data.draw(st.lists(some, min_size=n, max_size=n))
    p = data.draw(st.integers(1, n))
    picks = largest(torch.tensor(values), p, seeded(seed))
    positions = picks.positions.tolist()
    assert len(set(positions)) == p
    assert picks.scores.tolist() == [values[i] for i in positions] == sorted(values, reverse=True)[:p]
    assert picks.ranks is None
    assert picks.targets is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_keep_their_precision(dtype):
    scores = torch.tensor([1.0, 1.0 + torch.finfo(dtype).eps, 1.0 - torch.finfo(dtype).eps], dtype=dtype)
    picks = largest(scores, 3, seeded(0))
    assert picks.positions.tolist() == [1, 0, 2]
    assert picks.scores.dtype == dtype


def test_equal_scores_in_a_pool_sorted_by_class_give_picks_of_every_class():
    """Vote shares have a few values; by position, one class would get all the picks."""
    scores = torch.full((400,), 0.25)
    scores[::40] = 0.5
    counts = torch.zeros(400, dtype=torch.long)
    for seed in range(300):
        positions = largest(scores, 30, seeded(seed)).positions
        assert (positions[:10] % 40 == 0).all()
        counts[positions[10:]] += 1
    by_class = counts.view(4, 100).sum(dim=1)  # of 6,000 picks among equals
    # binomial with n = 6,000 and p = 1 / 4 has mean 1,500 and standard deviation 34
    assert (by_class - 1500).abs().max() < 5 * 34


def test_the_best_of_equals_come_in_random_order_too():
    firsts = {int(largest(torch.zeros(5), 5, seeded(seed)).positions[0]) for seed in range(60)}
    assert firsts == set(range(5))


def test_of_equal_scores_the_generator_alone_decides():
    scores = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    choices = [largest(scores, 2, seeded(3)).positions for _ in range(3)]
    assert torch.equal(choices[0], choices[1])
    assert torch.equal(choices[0], choices[2])
    assert len({tuple(largest(scores, 2, seeded(seed)).positions.tolist()) for seed in range(30)}) > 3


def test_a_score_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="a score is NaN; check the model's outputs"):
        largest(torch.tensor([0.0, float("nan"), 1.0]), 1, seeded(0))


@pytest.mark.parametrize("p", [-1, 0, 4])
def test_more_of_the_largest_than_the_pool_has_or_none_are_refused(p):
    with pytest.raises(ValueError, match=f"{p} picks of a pool of 3; ask for 1 to 3"):
        largest(torch.zeros(3), p, seeded(0))
