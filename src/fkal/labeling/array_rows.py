"""Arrays that a caller gives, as tensors, or as streams of rows where they are larger than memory shall hold."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fkal.core.picks import is_finite
from fkal.core.row_stream import Rows, RowStream

STREAMED = frozenset({"pool", "pool_gradients"})
"""Arguments with a row per pool image that may be as wide as descriptors are."""

ROWS_OF_ONE = frozenset({"target_labels", "labels"})
"""Arguments with one number per image."""

HALVES = (torch.float16, torch.bfloat16)

BESIDE = {
    "targets": "pool",
    "labeled": "pool",
    "target_gradients": "pool_gradients",
    "target_probabilities": "probabilities",
    "labeled_probabilities": "probabilities",
}
"""Arguments whose columns mean the same."""

PROBABILITIES_OF = {
    "target_labels": ("probabilities", "target_probabilities"),
    "labels": ("probabilities", "labeled_probabilities"),
}
"""Arguments with a column per class, which classes are counted by."""


def rows_of(name: str, value: Any, *, stream_above_gb: float) -> Rows:
    """The tensor, or a stream of an array of the pool that would take more than `stream_above_gb` in memory.

    Raises ValueError for what is no array, has another number of dimensions or no rows, or is not finite. Whether a
    stream is finite, `refuse_unfinite_rows` says.
    """
    if name in STREAMED and isinstance(value, np.ndarray | Tensor) and value.ndim == 2 and len(value):
        first = tensor_of(name, value[:1])
        if len(value) * first.nbytes > stream_above_gb * 1e9:
            return _stream(value, first)
    return tensor_of(name, value)


def tensor_of(name: str, value: Any) -> Tensor:
    """On the CPU, floats as they are but never half; refuses what has another number of dimensions or is not finite."""
    try:
        tensor = torch.as_tensor(_writable(value)).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: {type(value).__name__} is no array of numbers ({error}); give one") from error
    dims = 1 if name in ROWS_OF_ONE else 2
    if tensor.dim() != dims:
        raise ValueError(f"{name}: an array of shape {tuple(tensor.shape)}; give one of {dims} dimensions")
    if not len(tensor) and name in ("pool", "targets"):
        raise ValueError(f"{name}: it has no rows; give one for each image")
    if dims == 1:
        is_whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
        classes = tensor.long() if is_whole else tensor  # torch compares no unsigned numbers
        if not is_whole or (len(classes) and int(classes.min()) < 0):
            raise ValueError(f"{name}: give whole numbers, classes counted from 0")
        return classes
    tensor = _wide(tensor)
    refuse_unfinite_rows(name, tensor)
    return tensor


def fitted(given: Mapping[str, Rows]) -> dict[str, Rows]:
    """The arguments, those beside others in the others' dtype.

    Raises ValueError where columns that mean the same are not equally many, or a class has no column.
    """
    rows = dict(given)
    for name, other in BESIDE.items():
        if name in rows and other in rows:
            rows[name] = _beside(name, rows[name], other, rows[other])
    for name, tables in PROBABILITIES_OF.items():
        if name in rows and len(rows[name]):
            for table in tables:
                _refuse_unknown_class(name, rows[name], table, rows.get(table))
    return rows


def _beside(name: str, rows: Rows, other: str, reference: Rows) -> Rows:
    if not len(rows):  # nothing labeled yet: an empty array may have any width
        return torch.empty(0, reference.shape[1], dtype=reference.dtype)
    if rows.shape[1] != reference.shape[1]:
        raise ValueError(
            f"{name}: its rows have {rows.shape[1]} numbers and those of {other} {reference.shape[1]}; "
            "give both of the same model and layer"
        )
    if rows.dtype == reference.dtype or not isinstance(rows, Tensor):
        return rows
    same = rows.to(reference.dtype)
    refuse_unfinite_rows(name, same)
    return same


def _refuse_unknown_class(name: str, classes: Rows, table: str, probabilities: Rows | None) -> None:
    assert isinstance(classes, Tensor)
    if probabilities is not None and int(classes.max()) >= probabilities.shape[1]:
        raise ValueError(
            f"{name}: class {int(classes.max())}, but {table} has {probabilities.shape[1]} columns; "
            "give a column per class, and classes counted from 0"
        )


def whole_number(name: str, value: Any) -> int:
    """Raises ValueError for what is no whole number, as 2.5 is, or is below 1."""
    try:
        number = index(value)
    except TypeError:
        raise ValueError(f"{name}: {value!r} is no whole number; give one from 1 on") from None
    if number < 1:
        raise ValueError(f"{name}: {number}; give a whole number from 1 on")
    return number


def refuse_unfinite_rows(name: str, rows: Rows) -> None:
    """Raises ValueError for a NaN or an infinite number; a stream is read once for it."""
    if not is_finite(rows):
        raise ValueError(f"{name}: a value is NaN or infinite; give finite numbers")


def _stream(value: np.ndarray | Tensor, first: Tensor) -> RowStream:
    """Of an array whose first row is the tensor `first`."""

    def of_array(rows: Tensor | slice) -> Tensor:
        assert isinstance(value, np.ndarray)
        return _wide(torch.from_numpy(np.array(value[rows.cpu().numpy() if isinstance(rows, Tensor) else rows])))

    def of_tensor(rows: Tensor | slice) -> Tensor:
        assert isinstance(value, Tensor)
        return _wide(value[rows].detach().clone().cpu())

    read = of_array if isinstance(value, np.ndarray) else of_tensor
    return RowStream((len(value), first.shape[1]), first.dtype, first.device, read)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if not tensor.is_floating_point() or tensor.dtype in HALVES else tensor


def _writable(value: Any) -> Any:
    """A copy of an array that must not be written to, of which torch makes no tensor without a warning."""
    return value.copy() if isinstance(value, np.ndarray) and not value.flags.writeable else value
