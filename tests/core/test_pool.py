import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fkal.core.pool import Pool

INDICES = torch.tensor([7, 3, 11, 0, 5])


def test_a_new_pool_has_nothing_labeled():
    pool = Pool.unlabeled(INDICES)
    assert torch.equal(pool.open, INDICES)
    assert len(pool.labeled) == 0


def test_labeling_gives_a_new_pool_in_the_same_order_and_leaves_the_old_one():
    before = Pool.unlabeled(INDICES)
    after = before.label(torch.tensor([0, 3]))
    assert after.open.tolist() == [7, 11, 5]
    assert after.labeled.tolist() == [3, 0]
    assert torch.equal(before.open, INDICES)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 30), seed=st.integers(0, 10_000), data=st.data())
def test_a_labeled_image_never_returns_to_the_pool(n, seed, data):
    draws = torch.Generator().manual_seed(seed)
    indices = torch.randperm(100, generator=draws)[:n]
    pool, seen = Pool.unlabeled(indices), []
    while len(pool.open):
        p = data.draw(st.integers(1, len(pool.open)))
        positions = torch.randperm(len(pool.open), generator=draws)[:p]
        chosen = pool.open[positions]
        pool = pool.label(chosen)
        seen += chosen.tolist()
        assert sorted(pool.labeled.tolist()) == sorted(seen)
        assert not set(pool.open.tolist()) & set(seen)
        assert set(pool.open.tolist()) | set(seen) == set(indices.tolist())


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([3, 0], r"already labeled: \[3\]; pick only from pool.open"),
        ([5, 4, 99], r"not in the pool: \[4, 99\]; pick only from pool.open"),
        ([5, 5], "2 indices with repeats; name each image once"),
    ],
)
def test_what_cannot_be_labeled_is_named(chosen, message):
    pool = Pool.unlabeled(INDICES).label(torch.tensor([3]))
    with pytest.raises(ValueError, match=message):
        pool.label(torch.tensor(chosen))
