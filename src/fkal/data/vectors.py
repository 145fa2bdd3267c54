"""Own embeddings from a file, in place of images: .npz or .parquet with features, ids, labels and parts."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from fkal.data.digest import bytes_digest, header
from fkal.data.errors import CorruptData, MissingData, printable
from fkal.data.registry import PartsWithValidation
from fkal.data.regular_files import open_regular
from fkal.data.settings import DataConfig
from fkal.errors import shortened
from fkal.paths import at_home

LARGEST_FILE = 2**36  # bytes; a million embeddings of 4,096 float32 have a quarter of them
FEWEST_CLASSES = 2
MOST_DIGITS = 18
"""Of labels that are sorted as numbers."""
UNREADABLE = (
    *(OSError, ValueError, KeyError, zipfile.BadZipFile),
    *(MemoryError, RuntimeError, EOFError, zlib.error),  # a header of petabytes, an encrypted file, one that is cut off
)
TRAIN, TEST, VALIDATION = "train", "test", "validation"
PARTS = (TRAIN, TEST, VALIDATION)
COLUMNS = ("features", "ids", "labels", "parts")
EXAMPLE = "np.savez(FILE, features=X, ids=names, labels=classes, parts=['train', ..., 'test', ...])"


class VectorSet:
    """Embeddings of images that are not here; what asks for images gets vectors of l channels and one pixel."""

    def __init__(
        self, rows: Float[Tensor, "n l"], labels: Int64[Tensor, " n"], classes: Sequence[str], names: Sequence[str]
    ) -> None:
        self._rows = rows
        self.labels = labels
        self.classes = tuple(classes)
        self.names = names
        self.shape: tuple[int, int, int] = (rows.shape[1], 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        content = self._rows.contiguous().numpy().reshape(-1).view(np.uint8).data
        names = "\0".join(self.names).encode()
        return bytes_digest([header("vectors", self.shape, self.labels, self.classes), names, content])

    def rows(self, indices: Tensor) -> Float[Tensor, "b l"]:
        """Embeddings of some images, on the CPU."""
        return self._rows[indices.cpu()]

    def batches(
        self, batches: Iterable[Tensor], *, device: torch.device | str, augment: torch.Generator | None = None
    ) -> Iterator[Float[Tensor, "b l 1 1"]]:
        for indices in batches:
            yield self.rows(indices).to(device)[:, :, None, None]

    def pixels(self, indices: Tensor) -> UInt8[Tensor, "b 1 s s"]:
        """A picture of each vector: its numbers row by row in a square, its least black and its largest white."""
        rows = self.rows(indices)
        low, high = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
        grey = (255 * (rows - low) / (high - low).clamp(min=torch.finfo(rows.dtype).tiny)).byte()
        side = math.ceil(math.sqrt(rows.shape[1]))
        square = torch.zeros(len(rows), side * side, dtype=torch.uint8)
        square[:, : rows.shape[1]] = grey
        return square.view(-1, 1, side, side)


def embeddings(config: DataConfig, *, download: bool) -> tuple[VectorSet, VectorSet] | PartsWithValidation:
    """The parts of a file. Validation is drawn from the training part unless the file has its own.

    Raises MissingData without the file, CorruptData for one that is not what it should be.
    """
    path = at_home(config.embeddings or "")
    if not path.exists():
        raise MissingData(f"data.embeddings: {printable(path)}: there is no such file")
    columns = _columns(path)
    features, parts = columns["features"], columns["parts"]
    labels, classes = _labels(columns["labels"], path)
    ids = [printable(str(each)) for each in columns["ids"].tolist()]
    with np.errstate(over="ignore"):  # what is too large for float32 is refused below
        rows = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    if not bool(rows.isfinite().all()):
        raise CorruptData(f"{printable(path)}: features has numbers that are not finite; leave these images out")
    places = {part: torch.from_numpy(np.flatnonzero(parts == part)) for part in PARTS}
    _refuse_other_parts(path, parts, places)

    def part(indices: Tensor) -> VectorSet:
        return VectorSet(rows[indices], labels[indices], classes, [ids[i] for i in indices.tolist()])

    train, own = places[TRAIN], places[VALIDATION]
    if not len(own):
        return part(train), part(places[TEST])
    _refuse_unseen_classes(path, labels[own], classes)
    validation = torch.arange(len(train), len(train) + len(own))
    return PartsWithValidation(part(torch.cat([train, own])), part(places[TEST]), validation)


def _refuse_unseen_classes(path: Path, labels: Int64[Tensor, " n"], classes: Sequence[str]) -> None:
    """A class without validation images would steer nothing and be measured by nothing."""
    seen = set(labels.tolist())
    unseen = [name for k, name in enumerate(classes) if k not in seen]
    if unseen:
        raise CorruptData(
            f"data.embeddings: {printable(path)}: no row of part 'validation' has the label "
            f"{printable(unseen[0])!r}; give each class some, or leave the class out"
        )


def _columns(path: Path) -> Mapping[str, np.ndarray]:
    """One row per image in each. Raises CorruptData where some are absent or do not fit together."""
    where = f"data.embeddings: {printable(path)}"
    try:
        with open_regular(path, limit=LARGEST_FILE) as file:
            found = _of_parquet(file) if path.suffix == ".parquet" else _of_npz(file)
    except UNREADABLE as error:
        raise CorruptData(f"{where}: cannot be read ({shortened(str(error))}); write it again: {EXAMPLE}") from error
    absent = [name for name in COLUMNS if name not in found and name != "ids"]
    if absent:
        raise CorruptData(f"{where}: has no {', '.join(absent)}; give {', '.join(COLUMNS)}, say by {EXAMPLE}")
    features = found["features"]
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.size:
        raise CorruptData(f"{where}: features of shape {features.shape} and type {features.dtype}; give n x l numbers")
    found.setdefault("ids", np.arange(len(features)))
    odd = [name for name in COLUMNS[1:] if found[name].shape != (len(features),)]
    if odd:
        raise CorruptData(
            f"{where}: {odd[0]} of shape {found[odd[0]].shape}; give one entry for each of {len(features)} rows"
        )
    texts = {name: _texts(found[name], f"{where}: {name}") for name in COLUMNS[1:]}
    if len(np.unique(texts["ids"])) < len(features):
        raise CorruptData(f"{where}: an id is there twice; give each image its own")
    return {"features": features, **texts}


def _texts(column: np.ndarray, where: str) -> np.ndarray:
    """Each entry as a text without spaces around it. Raises CorruptData for entries that are none."""
    try:
        texts = np.array([each.decode() if isinstance(each, bytes) else str(each) for each in column.tolist()])
    except (UnicodeDecodeError, ValueError) as error:
        raise CorruptData(f"{where}: cannot be read as text ({shortened(str(error))}); write it as UTF-8") from error
    return np.char.strip(texts) if len(texts) else texts.astype(str)


def _of_npz(file: io.BufferedReader) -> dict[str, np.ndarray]:
    """Never unpickles."""
    arrays = np.load(file, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError("it is one array, and no .npz of several")
    with arrays:
        return {name: arrays[name] for name in arrays.files if name in COLUMNS}


def _of_parquet(file: io.BufferedReader) -> dict[str, np.ndarray]:
    """The column `features` holds a list of numbers per row."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        table = read_table(file, use_threads=False, pre_buffer=False)  # as of lists: labeling/listing.py says why
    except ArrowException as error:
        raise ValueError(str(error)) from error
    found = {name: table.column(name) for name in table.column_names if name in COLUMNS}
    arrays = {name: column.to_numpy(zero_copy_only=False) for name, column in found.items()}
    if "features" in arrays:
        arrays["features"] = np.stack(list(arrays["features"]))
    return arrays


def _labels(names: np.ndarray, path: Path) -> tuple[Int64[Tensor, " n"], tuple[str, ...]]:
    """Classes in the order of their names, whole numbers by their value. Raises CorruptData for an image without
    one, and where all have the same."""
    unlabeled = [name for name in ("", "-1", "None", "nan") if (names == name).any()]
    if unlabeled:
        raise CorruptData(
            f"data.embeddings: {printable(path)}: some images have the label {unlabeled[0]!r}; a simulated run asks "
            "for the label of any image: leave those without out"
        )
    distinct = sorted(set(names.tolist()), key=_by_number)
    if len(distinct) < FEWEST_CLASSES:
        raise CorruptData(
            f"data.embeddings: {printable(path)}: all images have the label {printable(distinct[0])!r}; give images of "
            f"at least {FEWEST_CLASSES} classes"
        )
    place = {name: k for k, name in enumerate(distinct)}
    return torch.tensor([place[name] for name in names.tolist()]), tuple(map(printable, distinct))


def _by_number(name: str) -> tuple[bool, int, str]:
    """Numbers first, 9 before 10."""
    is_number = name.isdecimal() and len(name) <= MOST_DIGITS
    return not is_number, int(name) if is_number else 0, name


def _refuse_other_parts(path: Path, parts: np.ndarray, places: Mapping[str, Tensor]) -> None:
    others = sorted(set(parts.tolist()) - set(PARTS))
    if others:
        raise CorruptData(
            f"data.embeddings: {printable(path)}: a part is called {shortened(others[0])}; use {', '.join(PARTS)}"
        )
    absent = [part for part in (TRAIN, TEST) if not len(places[part])]
    if absent:
        raise CorruptData(f"data.embeddings: {printable(path)}: no image of the part {absent[0]}; give some to each")
