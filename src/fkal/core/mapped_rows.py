"""Rows in a file without a name: the system writes their pages to it and takes them from memory as it needs."""

import math
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor


def mapped(shape: tuple[int, int], dtype: torch.dtype, folder: Path | None = None) -> Tensor:
    """Rows to be filled, in a file of the folder, by default that for temporary files (`TMPDIR`).

    The system removes the file with the process, however that ends. Raises OSError where the disk is full.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix="rows-") as file:
        # without room for all of it, a later write to the mapping would end the process
        os.posix_fallocate(file.fileno(), 0, max(1, math.prod(shape) * dtype.itemsize))
        return torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=dtype).view(shape)
