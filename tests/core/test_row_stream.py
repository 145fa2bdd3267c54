"""Streams of rows are looked up like tensors, and what reads them picks what it picks of tensors."""

import pytest
import torch
from torch.testing import assert_close

from fkal.core.centers import farthest_first
from fkal.core.descriptors import Descriptors
from fkal.core.kernels import r_zg_product, top_matches
from fkal.core.label_shift import estimated_prior
from fkal.core.picks import is_finite
from fkal.core.row_stream import ROWS_AT_ONCE, RowStream, StreamedDescriptors, below, joined, some, through, with_rows
from fkal.core.whitening import Whitening

CPU = torch.device("cpu")


def draws(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def streamed(rows: torch.Tensor) -> RowStream:
    return RowStream((rows.shape[0], rows.shape[1]), rows.dtype, CPU, lambda which: rows[which].clone())


def test_a_stream_is_looked_up_and_split_like_a_tensor():
    rows = draws(11, 3)
    stream = streamed(rows)
    assert len(stream) == 11 and stream.shape == (11, 3)
    assert_close(stream[torch.tensor([4, 0, 4])], rows[[4, 0, 4]])
    assert_close(stream[2:30], rows[2:])
    assert [len(part) for part in stream.split(4)] == [4, 4, 3]
    assert_close(stream.mapped(torch.square)[1:3], rows[1:3].square())


def test_no_more_rows_are_read_at_once_than_the_bound():
    longest = []

    def read(which):
        rows = torch.zeros(3 * ROWS_AT_ONCE, 2)[which]
        longest.append(len(rows))
        return rows

    stream = StreamedDescriptors({"a": RowStream((3 * ROWS_AT_ONCE, 2), torch.float32, CPU, read)})
    assert [first for first, _ in stream.blocks(10**9)] == [0, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE]
    assert max(longest) == ROWS_AT_ONCE


@pytest.mark.parametrize("at", [[], [4], [10, 0, 3]])
def test_some_rows_are_put_in_place_of_others_in_a_tensor_and_in_a_stream(at):
    rows, values = draws(11, 3), draws(len(at), 3, seed=1)
    expected = rows.clone()
    expected[at] = values
    positions = torch.tensor(at, dtype=torch.long)
    stream = with_rows(streamed(rows), positions, values)
    assert torch.equal(with_rows(rows, positions, values), expected)
    assert torch.equal(stream[:], expected) and torch.equal(stream[2:7], expected[2:7])
    assert torch.equal(stream[torch.tensor([10, 1, 0, 10])], expected[[10, 1, 0, 10]])
    assert torch.equal(rows, draws(11, 3))
    again = with_rows(stream, torch.tensor([1]), torch.ones(1, 3))
    assert torch.equal(again[1:2], torch.ones(1, 3)) and torch.equal(again[3:], expected[3:])


def test_rows_below_each_other_and_some_of_them_are_those_of_tensors():
    rows, more, at = draws(9, 3), draws(4, 3, seed=1), torch.tensor([12, 0, 9, 3, 9])
    whole = torch.cat([rows, more])
    for found in (below(rows, more), below(streamed(rows), more)):
        assert len(found) == 13
        for which in (slice(None), slice(5, 11), slice(10, 99), at):
            assert torch.equal(found[which], whole[which])
        few = some(found, at)
        assert torch.equal(few[:], whole[at])
        assert torch.equal(few[1:3], whole[at][1:3]) and torch.equal(few[torch.tensor([4, 0])], whole[at][[4, 0]])
        assert torch.equal(through(few, torch.square)[:], whole[at].square())


def test_joined_parts_are_those_of_cat():
    for rows in (draws(10, 3), draws(10, 3)[:, 0]):
        assert_close(joined(rows.split(4), 10), rows)


def test_matches_and_whitening_of_a_stream_are_those_of_descriptors():
    z, g = draws(5000, 6), draws(5000, 4, seed=1)
    pool = Descriptors.of({"a": z}, {"a": g})
    stream = StreamedDescriptors({"a": streamed(pool.z["a"])}, {"a": streamed(pool.g["a"])})
    whiten = Whitening.fitted(pool[:200])
    for one, other in ((pool, stream), (whiten(pool), whiten(stream))):
        whole, read = (top_matches(one[:7], each, 20, kernel=r_zg_product) for each in (one, other))
        assert read.positions.tolist() == whole.positions.tolist()


@pytest.mark.parametrize("labeled", [0, 3])
def test_core_set_of_a_stream_is_that_of_its_rows(labeled):
    rows, known = draws(3000, 5), draws(labeled, 5, seed=2)
    whole, read = (
        farthest_first(pool, known, 40, generator=torch.Generator().manual_seed(0)) for pool in (rows, streamed(rows))
    )
    assert read[0].tolist() == whole[0].tolist()
    assert_close(read[1], whole[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_found_in_any_block(value):
    rows = draws(2 * ROWS_AT_ONCE + 1, 1)
    assert is_finite(streamed(rows))
    rows[-1] = value
    assert not is_finite(streamed(rows))


def test_a_prior_is_the_same_when_it_is_added_up_part_by_part(monkeypatch):
    p = draws(1000, 4).double().softmax(dim=1)
    whole = estimated_prior(p)
    monkeypatch.setattr("fkal.core.label_shift.SUMMED_ENTRIES", 64)
    assert_close(estimated_prior(p), whole)
