import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from fkal.core.kernels import R_ZG, r_z, top_matches
from fkal.core.picks import best_distinct, distinct


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
