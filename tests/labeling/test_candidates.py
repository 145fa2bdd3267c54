"""Which images a selection may choose from."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.labeling.candidates import representatives, strays, suggested_similarity, turns_by_group


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    asked=st.lists(st.integers(0, 3), min_size=8, max_size=8),
    part=st.floats(0.01, 1.0),
    seed=st.integers(0, 99),
)
def test_no_group_has_two_more_images_than_another_that_has_some_left(sizes, asked, part, seed):
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    before = {f"g{number}": asked[number] for number in range(len(sizes))}
    rows, n = torch.arange(len(groups)) * 3, max(1, int(part * len(groups)))
    turns = turns_by_group(rows, groups, before, n, seeded(seed))
    assert sum(turn.n for turn in turns) == n
    assert all(turn.n <= len(turn.rows) for turn in turns)
    taken = torch.cat([turn.rows[: turn.n] for turn in turns]) // 3
    assert len(set(taken.tolist())) == n
    picked = Counter(groups[place] for place in taken.tolist())
    total = {name: before[name] + picked[name] for name in before}
    left = {name for name in before if picked[name] < groups.count(name)}
    assert all(total[name] <= total[other] + 1 for name in picked for other in left)


def test_one_image_per_group_is_offered_while_groups_last_and_which_one_is_drawn():
    groups = [f"g{i // 10}" for i in range(50)]
    (turn,) = turns_by_group(torch.arange(50), groups, {}, 5, seeded())
    assert sorted(groups[row] for row in turn.rows.tolist()) == ["g0", "g1", "g2", "g3", "g4"]
    (other,) = turns_by_group(torch.arange(50), groups, {}, 5, seeded(1))
    assert turn.rows.tolist() != other.rows.tolist()


def test_images_without_a_group_are_each_by_themselves():
    groups = [None] * 6 + ["a"] * 6
    (turn,) = turns_by_group(torch.arange(12), groups, {}, 7, seeded())
    assert turn.rows.tolist()[:6] == [0, 1, 2, 3, 4, 5] and len(turn.rows) == 7


def test_groups_that_were_asked_for_before_come_last():
    groups = ["a", "a", "b", "b", "c", "c"]
    first, second = turns_by_group(torch.arange(6), groups, {"a": 1, "b": 1}, 2, seeded())
    assert [groups[row] for row in first.rows.tolist()] == ["c"] and first.n == 1
    assert second.n == 1 and {groups[row] for row in second.rows.tolist()} == {"a", "b", "c"}


def test_the_first_of_near_copies_stays_whatever_the_block(monkeypatch):
    base = torch.nn.functional.normalize(torch.randn(30, 16, generator=seeded()), dim=1)
    copies = base.repeat_interleave(3, dim=0) + 0.001 * torch.randn(90, 16, generator=seeded(1))
    whole = representatives(copies, copies[:0], 0.99)
    assert whole.stays.nonzero()[:, 0].tolist() == list(range(0, 90, 3))
    assert whole.by.tolist() == [3 * (place // 3) for place in range(90)]
    monkeypatch.setattr("fkal.labeling.candidates.BLOCK_ROWS", 7)
    small = representatives(copies, copies[:0], 0.99)
    assert torch.equal(small.stays, whole.stays) and torch.equal(small.by, whole.by)


def test_what_is_like_an_image_that_was_asked_for_does_not_stay():
    known = torch.eye(4)[:2]
    found = representatives(torch.eye(4), known, 0.9)
    assert found.stays.tolist() == [False, False, True, True]
    assert found.by.tolist() == [-2, -1, 2, 3]


def test_strays_are_those_nearest_to_an_image_of_no_class():
    rows = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.9]])
    assert strays(rows, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).tolist() == [True, False, True]
    assert not strays(rows, rows[:0], rows).any()


def test_a_similarity_is_suggested_as_far_as_pairs_share_their_label():
    draws = seeded()
    base = torch.nn.functional.normalize(torch.randn(30, 64, generator=draws), dim=1)
    near = base.repeat_interleave(2, dim=0)
    near = near + 0.02 * torch.randn(near.shape, generator=draws)
    labels = torch.arange(30).repeat_interleave(2)
    found = suggested_similarity(near, labels)
    assert found is not None and found < 0.999
    assert suggested_similarity(near, torch.arange(60)) is None
    assert suggested_similarity(base, torch.arange(30)) is None


@pytest.mark.parametrize("n", [1, 3])
def test_a_pool_of_one_group_is_asked_for_image_by_image(n):
    turns = turns_by_group(torch.arange(3), ["a"] * 3, {}, n, seeded())
    assert sum(turn.n for turn in turns) == n
