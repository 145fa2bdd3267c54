"""Rows that are read when they are asked for: a pool whose descriptors memory does not hold.

What goes through a pool in blocks, or looks some rows up, takes a stream like a tensor: `pool[rows]` and
`pool[first:last]` are tensors. Nothing here holds more than the rows of one call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors, Maps, looked_up

Read = Callable[[Tensor | slice], Tensor]
"""Positions, or a slice, to rows (r l) that are the caller's own: what they go through may overwrite them."""

ROWS_AT_ONCE = 1 << 12
"""Rows of a stream that are read at once, at most: 12 MiB of 768 float32."""


@dataclass(frozen=True)
class RowStream:
    """n rows of l numbers, of which `read` makes some at a time. A row does not depend on what is read beside it."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    read: Read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Int[Tensor, " r"] | slice) -> Float[Tensor, "r l"]:
        return self.read(rows)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "RowStream":
        """The stream of what a function that keeps width and type makes of each row."""
        return replace(self, read=lambda rows: function(self.read(rows)))

    def split(self, size: int = ROWS_AT_ONCE) -> Iterator[Float[Tensor, "r l"]]:
        """All rows in order, `size` at a time, as `Tensor.split` has them."""
        return (self.read(slice(first, first + size)) for first in range(0, len(self), size))


Rows = Tensor | RowStream


def with_rows(rows: Rows, at: Int[Tensor, " r"], values: Float[Tensor, "r l"]) -> Rows:
    """The same rows but for those `at` some distinct positions, which have these values."""
    if isinstance(rows, Tensor):
        return rows.index_copy(0, at.to(rows.device), values.to(rows))
    place = torch.full((len(rows),), -1)  # of each row among the values
    place[at.cpu()] = torch.arange(len(at))
    new = values.to(rows.device, rows.dtype)

    def read(which: Tensor | slice) -> Tensor:
        part = rows.read(which)
        among = place[which.cpu() if isinstance(which, Tensor) else which]
        changed = (among >= 0).nonzero()[:, 0]
        part[changed.to(part.device)] = new[among[changed].to(part.device)]
        return part

    return replace(rows, read=read)


def below(rows: Rows, more: Float[Tensor, "m l"]) -> Rows:
    """The rows, and more rows below them."""
    if isinstance(rows, Tensor):
        return torch.cat([rows, more])
    n, whole = len(rows), len(rows) + len(more)
    added = more.to(rows.device, rows.dtype)

    def read(which: Tensor | slice) -> Tensor:
        places = torch.arange(*which.indices(whole)) if isinstance(which, slice) else which.cpu()
        part = added.new_empty(len(places), added.shape[1])
        is_added = places >= n
        part[(~is_added).to(part.device)] = rows.read(places[~is_added])
        part[is_added.to(part.device)] = added[(places[is_added] - n).to(part.device)]
        return part

    return replace(rows, shape=(whole, rows.shape[1]), read=read)


def some(rows: Rows, at: Int[Tensor, " r"]) -> Rows:
    """The rows at these positions."""
    if isinstance(rows, Tensor):
        return rows[at]

    def read(which: Tensor | slice) -> Tensor:
        return rows.read(at[which.to(at.device) if isinstance(which, Tensor) else which])

    return replace(rows, shape=(len(at), rows.shape[1]), read=read)


def through(rows: Rows, function: Callable[[Tensor], Tensor]) -> Rows:
    """What a function that keeps width and type makes of each row."""
    return rows.mapped(function) if isinstance(rows, RowStream) else function(rows)


def joined(parts: Iterable[Tensor], n: int) -> Tensor:
    """The parts below each other, n rows in all, each of which is let go before the next one is made.

    `torch.cat` of a list keeps the parts. Then the C library cannot use the memory between them again, and a process
    grows by as much as it has read.
    """
    whole, filled = torch.empty(0), 0
    for part in parts:
        if not filled:
            whole = part.new_empty((n, *part.shape[1:]))
        whole[filled : filled + len(part)] = part
        filled += len(part)
        del part
    assert filled == n, "the parts have other rows"
    return whole


@dataclass(frozen=True)
class StreamedDescriptors:
    """Standardised rows of n images like `Descriptors`, of which some are made at a time. Looked up, they are these."""

    z: Mapping[str, Rows]
    g: Mapping[str, Rows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.z.values())))

    def __getitem__(self, rows: Int[Tensor, " r"] | slice) -> Descriptors:
        return looked_up(self.z, self.g, rows)

    @property
    def device(self) -> torch.device:
        return next(iter(self.z.values())).device

    @property
    def features(self) -> "StreamedDescriptors":
        """z alone."""
        return StreamedDescriptors(self.z)

    def with_gradients(self, g: Mapping[str, Rows]) -> "StreamedDescriptors":
        """The same features beside these gradients, or what takes their place."""
        return StreamedDescriptors(self.z, g)

    def with_one_more(self, name: str, rows: Tensor) -> "StreamedDescriptors":
        """The same with one more block, which is in memory, beside the gradients."""
        return StreamedDescriptors(self.z, {**self.g, name: rows})

    def mapped(self, z: Maps, g: Maps) -> "StreamedDescriptors":
        """The stream of what functions make of their features and gradients."""
        return StreamedDescriptors(_mapped(self.z, z), _mapped(self.g, g))

    def blocks(self, size: int) -> Iterator[tuple[int, Descriptors]]:
        """(first row, rows) for consecutive runs of `size` rows, or of `ROWS_AT_ONCE` where these are fewer."""
        size = min(size, ROWS_AT_ONCE)
        for first in range(0, len(self), size):
            yield first, self[first : first + size]


PoolDescriptors = Descriptors | StreamedDescriptors
"""Of a pool that memory holds, or of one that it does not."""


def _mapped(blocks: Mapping[str, Rows], maps: Maps) -> dict[str, Rows]:
    return {tap: through(block, maps[tap]) if tap in maps else block for tap, block in blocks.items()}
