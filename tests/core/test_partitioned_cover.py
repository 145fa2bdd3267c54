"""Two stages of greedy covering beside one stage, and partial lists of matches beside one list."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.core.facility_location import facility_location
from fkal.core.partitioned_cover import objective, partitioned_cover


def of_seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def problem():
    pool, targets = torch.randn(240, 6, generator=of_seed(1)), torch.randn(30, 6, generator=of_seed(2))
    return (lambda rows: pool[rows] @ targets.T), {"weights": torch.ones(30), "covered": torch.zeros(30)}


def split(n: int, parts: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randperm(n, generator=of_seed(seed)).tensor_split(parts))


def test_one_part_is_one_stage(problem):
    similarity, about = problem
    alone = facility_location(similarity, 240, 9, **about, generator=of_seed(0))
    parts = partitioned_cover(similarity, [torch.arange(240)], 9, **about, generator=of_seed(0))
    assert parts.positions.tolist() == alone.positions.tolist()
    torch.testing.assert_close(parts.scores, alone.scores)


@pytest.mark.parametrize("parts", [2, 5, 16])
@pytest.mark.parametrize("seed", range(3))
def test_parts_reach_nearly_what_one_stage_reaches_with_picks_of_their_own(problem, parts, seed):
    similarity, about = problem
    alone = facility_location(similarity, 240, 9, **about, generator=of_seed(0)).positions
    picks = partitioned_cover(similarity, split(240, parts, seed), 9, **about, generator=of_seed(0))
    assert len(set(picks.positions.tolist())) == 9
    reached = objective(similarity, picks.positions, **about)
    assert reached >= 0.97 * objective(similarity, alone, **about)
    assert float(picks.scores.sum()) == pytest.approx(reached, rel=1e-5)


def test_a_part_that_alone_reaches_more_than_the_union_is_kept():
    """Each part's first pick covers everything a little; the union prefers these to what completes each other."""
    rows = torch.tensor([[0.6, 0.6, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    about = {"weights": torch.ones(4), "covered": torch.zeros(4)}
    parts = [torch.tensor([2, 3]), torch.tensor([0, 1])]
    picks = partitioned_cover(lambda some: rows[some], parts, 2, **about, generator=of_seed(0))
    alone = max(objective(lambda some: rows[some], part, **about) for part in parts)
    assert objective(lambda some: rows[some], picks.positions, **about) >= alone


def test_a_bonus_counts_by_positions_of_the_whole_pool(problem):
    similarity, about = problem
    bonus = torch.zeros(240)
    bonus[[17, 201]] = 1000.0
    picks = partitioned_cover(similarity, split(240, 4), 3, **about, bonus=bonus, generator=of_seed(0))
    assert {17, 201} <= set(picks.positions.tolist())


def test_a_part_smaller_than_the_picks_gives_all_it_has(problem):
    similarity, about = problem
    parts = [torch.arange(2), torch.arange(2, 4), torch.arange(4, 5)]
    picks = partitioned_cover(similarity, parts, 5, **about, generator=of_seed(0))
    assert sorted(picks.positions.tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="6"):
        partitioned_cover(similarity, parts, 6, **about, generator=of_seed(0))


@given(
    scores=st.lists(st.integers(-2, 2), min_size=1, max_size=24),
    parts=st.integers(1, 5),
    k=st.integers(1, 24),
    seed=st.integers(0, 99),
)
def test_partial_lists_merge_to_the_one_list_ties_too(scores, parts, k, seed):
    from fkal.core.kernels import Matches, merged_matches

    k = min(k, len(scores))
    whole = sorted(range(len(scores)), key=lambda position: (-scores[position], position))[:k]
    lists = []
    for rows in split(len(scores), parts, seed):
        best = sorted(rows.tolist(), key=lambda position: (-scores[position], position))[:k]
        values = torch.tensor([[float(scores[position]) for position in best]]).reshape(1, len(best))
        lists.append(Matches(values, torch.tensor([best], dtype=torch.long).reshape(1, len(best))))
    merged = merged_matches(lists, k)
    assert merged.positions[0].tolist() == whole
    assert merged.scores[0].tolist() == [float(scores[position]) for position in whole]


def test_more_matches_than_the_parts_have_are_refused():
    from fkal.core.kernels import Matches, merged_matches

    part = Matches(torch.zeros(2, 3), torch.arange(3).expand(2, 3))
    with pytest.raises(ValueError, match="k = 4"):
        merged_matches([part], 4)


def test_parts_of_a_pool_that_is_read_by_kernels_merge_to_its_top_matches():
    from fkal.core.descriptors import Descriptors
    from fkal.core.kernels import merged_matches, r_z, top_matches

    pool = Descriptors.of({"fc1": torch.randn(60, 5, generator=of_seed(3)).round()})
    targets = pool[:7]
    lists = []
    for first in (40, 0, 20):
        found = top_matches(targets, pool[first : first + 20], 6, kernel=r_z)
        lists.append(found._replace(positions=found.positions + first))
    merged, whole = merged_matches(lists, 6), top_matches(targets, pool, 6, kernel=r_z)
    assert merged.positions.tolist() == whole.positions.tolist()
    assert merged.scores.tolist() == whole.scores.tolist()
