"""Partial lists of matches beside one list."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import R_ZG, Matches, merged_matches, r_z, top_matches
from fkal.core.partitioned_matches import partitioned_matches
from fkal.core.pool_parts import Parts
from fkal.core.row_stream import RowStream, StreamedDescriptors


def of_seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def described(n: int, seed: int, width: int = 37) -> Descriptors:
    draws = of_seed(seed)
    return Descriptors.of({"fc1": torch.randn(n, width, generator=draws)}, {"fc1": torch.randn(n, 10, generator=draws)})


def streamed(pool: Descriptors) -> StreamedDescriptors:
    def stream(rows: torch.Tensor) -> RowStream:
        return RowStream(tuple(rows.shape), rows.dtype, rows.device, lambda which: rows[which].clone())

    blocks = ({tap: stream(rows) for tap, rows in side.items()} for side in (pool.z, pool.g))
    return StreamedDescriptors(*blocks)


def elsewhere(work, parts):
    """As in another process: each part with rows of its own, the last one first."""
    return [work(part.in_memory()) for part in reversed(parts)][::-1]


@given(
    scores=st.lists(st.integers(-2, 2), min_size=1, max_size=24),
    parts=st.integers(1, 5),
    k=st.integers(1, 24),
    seed=st.integers(0, 99),
)
def test_partial_lists_merge_to_the_one_list_ties_too(scores, parts, k, seed):
    k = min(k, len(scores))
    whole = sorted(range(len(scores)), key=lambda position: (-scores[position], position))[:k]
    lists = []
    for rows in torch.randperm(len(scores), generator=of_seed(seed)).tensor_split(parts):
        best = sorted(rows.tolist(), key=lambda position: (-scores[position], position))[:k]
        values = torch.tensor([[float(scores[position]) for position in best]]).reshape(1, len(best))
        lists.append(Matches(values, torch.tensor([best], dtype=torch.long).reshape(1, len(best))))
    merged = merged_matches(lists, k)
    assert merged.positions[0].tolist() == whole
    assert merged.scores[0].tolist() == [float(scores[position]) for position in whole]


def test_more_matches_than_the_parts_have_are_refused():
    part = Matches(torch.zeros(2, 3), torch.arange(3).expand(2, 3))
    with pytest.raises(ValueError, match="k = 4"):
        merged_matches([part], 4)


def test_parts_of_a_pool_that_is_read_by_kernels_merge_to_its_top_matches():
    pool = Descriptors.of({"fc1": torch.randn(60, 5, generator=of_seed(3)).round()})
    targets = pool[:7]
    lists = []
    for first in (40, 0, 20):
        found = top_matches(targets, pool[first : first + 20], 6, kernel=r_z)
        lists.append(found._replace(positions=found.positions + first))
    merged, whole = merged_matches(lists, 6), top_matches(targets, pool, 6, kernel=r_z)
    assert merged.positions.tolist() == whole.positions.tolist()
    assert merged.scores.tolist() == whole.scores.tolist()


@pytest.mark.parametrize("parts", [2, 3, 7, 65_536])
@pytest.mark.parametrize("kernel", ["r_z", *R_ZG])
def test_parts_give_the_matches_of_the_whole_to_the_bit(kernel, parts):
    """Blocks of 31 rows and fewer: products of few rows round otherwise where they are cut elsewhere."""
    function = r_z if kernel == "r_z" else R_ZG[kernel]
    pool, targets = described(1000, 0), described(33, 1)
    about = {"kernel": function, "block_entries": 33 * 31}
    whole = top_matches(targets, pool, 40, **about)
    for rows in (pool, streamed(pool)):
        for over in (Parts(parts), Parts(parts, elsewhere)):
            found = partitioned_matches(targets, rows, 40, parts=over, **about)
            assert torch.equal(found.scores, whole.scores)
            assert torch.equal(found.positions, whole.positions)


def test_a_part_smaller_than_the_list_gives_all_it_has():
    pool, targets = described(10, 0), described(3, 1)
    found = partitioned_matches(targets, pool, 9, kernel=r_z, parts=Parts(10), block_entries=3)
    whole = top_matches(targets, pool, 9, kernel=r_z, block_entries=3)
    assert torch.equal(found.scores, whole.scores) and torch.equal(found.positions, whole.positions)


@pytest.mark.parametrize("k", [0, 11])
def test_a_list_longer_than_the_pool_is_refused(k):
    with pytest.raises(ValueError, match=f"k = {k} matches of a pool of 10"):
        partitioned_matches(described(3, 1), described(10, 0), k, kernel=r_z, parts=Parts(2), block_entries=3)
