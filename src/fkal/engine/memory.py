"""The bound of memory: rows that would take more are in files as soon as they are made."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fkal.core.mapped_rows import mapped
from fkal.core.row_stream import Rows, RowStream


@dataclass(frozen=True)
class MemoryBound:
    """Rows of a pool that would take more than `gb` (10^9 bytes) are mapped from files of `folder`.

    Such a file has no name once it is mapped, so the system removes it with the process, however that ends.
    """

    gb: float = math.inf
    folder: Path | None = None

    def is_exceeded(self, shape: tuple[int, int], dtype: torch.dtype) -> bool:
        return math.prod(shape) * dtype.itemsize > self.gb * 1e9

    def empty(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU to be filled, in memory or mapped. Raises OSError where the disk is full."""
        if not self.is_exceeded(shape, dtype):
            return torch.empty(shape, dtype=dtype)
        assert self.folder is not None, "a bound needs a folder"
        self.folder.mkdir(parents=True, exist_ok=True)
        return mapped(shape, dtype, self.folder)

    def read(self, rows: Tensor, device: torch.device) -> Rows:
        """Rows on the device: all of them, or a stream of those that `empty` had mapped."""
        shape = (rows.shape[0], rows.shape[1])
        if not self.is_exceeded(shape, rows.dtype):
            return rows.to(device)

        def some(which: Tensor | slice) -> Tensor:
            part = rows[which.cpu()] if isinstance(which, Tensor) else rows[which].clone()
            return part.to(device)

        return RowStream(shape, rows.dtype, device, some)


UNBOUNDED = MemoryBound()
