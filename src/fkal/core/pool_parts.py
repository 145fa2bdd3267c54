"""A pool in parts of consecutive rows. Work on one part needs no other, so each part may be on a machine of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from fkal.core.row_stream import PoolDescriptors, Rows, RowStream, StreamedDescriptors

PoolRows = PoolDescriptors | Rows


@dataclass(frozen=True)
class PoolPart:
    """Consecutive rows of a pool, by the position of the first; rows of a stream are read when they are asked for."""

    number: int
    first: int
    rows: PoolRows

    def __len__(self) -> int:
        return len(self.rows)

    def in_memory(self) -> "PoolPart":
        """The same part with rows of its own, which another process can be sent."""
        return replace(self, rows=self.rows[torch.arange(len(self.rows))])

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.rows, StreamedDescriptors | RowStream)


MapParts = Callable[[Callable[[PoolPart], Any], Sequence[PoolPart]], list[Any]]
"""What a function makes of each part, in the order of the parts. The function and its results can be pickled."""


def one_by_one(work: Callable[[PoolPart], Any], parts: Sequence[PoolPart]) -> list[Any]:
    """In this process."""
    return [work(part) for part in parts]


@dataclass(frozen=True)
class Parts:
    """In how many parts a choice is made, and who works on them."""

    count: int = 1
    over: MapParts = one_by_one


WHOLE = Parts()


def parts_of(pool: PoolRows, count: int, *, step: int = 1) -> list[PoolPart]:
    """At most so many parts, as large as each other; all but the last have a multiple of `step` rows.

    Example:
        >>> [len(part) for part in parts_of(torch.zeros(10, 1), 3, step=2)] == [2, 4, 4]
        True
    """
    n = len(pool)
    steps = -(-n // step)
    ends = [min(n, step * (steps * i // count)) for i in range(count + 1)]
    bounds = [(first, last) for first, last in pairwise(ends) if first < last]
    return [PoolPart(number, first, _between(pool, first, last)) for number, (first, last) in enumerate(bounds)]


def _between(pool: PoolRows, first: int, last: int) -> PoolRows:
    if isinstance(pool, StreamedDescriptors):
        z = {tap: _rows_between(rows, first, last) for tap, rows in pool.z.items()}
        return StreamedDescriptors(z, {tap: _rows_between(rows, first, last) for tap, rows in pool.g.items()})
    return _rows_between(pool, first, last) if isinstance(pool, RowStream) else pool[first:last]


def _rows_between(rows: Rows, first: int, last: int) -> Rows:
    if isinstance(rows, torch.Tensor):
        return rows[first:last]

    def read(which: torch.Tensor | slice) -> torch.Tensor:
        if isinstance(which, slice):
            start, stop, every = which.indices(last - first)
            return rows.read(slice(first + start, first + stop, every))
        return rows.read(which + first)

    return replace(rows, shape=(last - first, rows.shape[1]), read=read)
