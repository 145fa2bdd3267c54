"""Lists of images in Parquet files: pool.parquet, validation.parquet and test.parquet. Imports no torch.

A list is held as columns, so that a million rows take some hundred megabytes. The order of the rows is the order of
indices; rows are appended and never moved, so an index means the same image in every round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fkal.atomic_files import whole_file
from fkal.data.regular_files import IrregularFile, open_regular
from fkal.errors import UserError, shortened
from fkal.identifiers import FILE_DIGEST

ROWS_AT_ONCE = 20_000
"""Rows that are converted or written together."""
DIGEST_LENGTH = 32
"""Hexadecimal digits of the digest of a whole list."""
COLUMNS = (
    ("path", pa.string()),
    ("digest", pa.string()),
    ("root", pa.int32()),
    ("group", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("duplicates", pa.list_(pa.string())),
)
LABEL_COLUMNS = (("label", pa.string()), ("batch", pa.string()))
PART = b"fkal.part"
"""In the metadata of a file: the name that it was written by, so that a file of another part is known."""
GROUPED_BY = b"fkal.groups"
"""The setting `data.groups` by which the groups of the rows were found, empty for none. Earlier versions lack it."""
UNLABELED = pa.schema(COLUMNS)
LABELED = pa.schema((*COLUMNS, *LABEL_COLUMNS))


class CorruptListing(UserError, ValueError):
    """A list of images is not what fkal wrote."""


@dataclass(frozen=True)
class ListedImage:
    """One row of a list.

    `path` is relative to the place that `root` counts in the params file, or absolute, or a URL. `digest`, `width`
    and `height` are None for an image behind a URL that was not read yet. `batch` names the batch of labels that
    brought a validation image, None for one that came from a file.
    """

    path: str
    digest: str | None = None
    root: int = 0
    group: str | None = None
    width: int | None = None
    height: int | None = None
    duplicates: tuple[str, ...] = ()
    label: str | None = None
    batch: str | None = None


@dataclass(frozen=True, eq=False)
class Listing:
    """The rows of one list, by column.

    `grouped_by` is the setting `data.groups` that its groups are of, empty for none, None where it is not known.
    """

    table: pa.Table
    grouped_by: str | None = ""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: int) -> ListedImage:
        """One row; an index below 0 or beyond the last is refused."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index}: the list has {len(self)} images; give 0 to {len(self) - 1}")
        return _listed(self.table.slice(index, 1).to_pylist()[0])

    def __iter__(self) -> Iterator[ListedImage]:
        for batch in self.table.to_batches(max_chunksize=ROWS_AT_ONCE):
            yield from map(_listed, batch.to_pylist())

    @property
    def is_labeled(self) -> bool:
        return "label" in self.table.column_names

    @cached_property
    def paths(self) -> Sequence[str]:
        return Texts(self.table["path"])

    @cached_property
    def digests(self) -> Sequence[str | None]:
        return Texts(self.table["digest"])

    @cached_property
    def groups(self) -> Sequence[str | None]:
        return Texts(self.table["group"])

    @cached_property
    def roots(self) -> list[int]:
        """Which place each image is in."""
        found: list[int] = self.table["root"].to_pylist()
        return found

    @cached_property
    def labels(self) -> Sequence[str | None]:
        """Names of classes, of a labeled list."""
        return Texts(self.table["label"])

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of the images, in their order, and of their labels; where the files are is left out."""
        content = hashlib.sha256()
        for image in self:
            content.update(f"{image.digest or image.path}\0{image.label or ''}\n".encode(errors="surrogatepass"))
        return content.hexdigest()[:DIGEST_LENGTH]

    def positions(self, digests: Sequence[str]) -> list[int | None]:
        """The index of each digest; None for one that is not in the list."""
        found: list[int | None] = pc.index_in(
            pa.array(digests, pa.string()), value_set=self.table["digest"].combine_chunks()
        ).to_pylist()
        return found

    @cached_property
    def last_rows(self) -> list[int]:
        """Rows, in order, without those whose file has got another content since, which is a later row."""
        names = self.table.select(["root", "path"]).append_column("row", pa.array(range(len(self)), pa.int64()))
        last = names.group_by(["root", "path"], use_threads=False).aggregate([("row", "max")])
        return sorted(last["row_max"].to_pylist())

    def positions_of_paths(self, paths: Sequence[str]) -> list[int | None]:
        """The index of each path, as it is listed; None for one that is not, or that images of several places have."""
        several = self.repeated_paths(paths)
        found: list[int | None] = pc.index_in(
            pa.array(paths, pa.string()), value_set=self._last_paths.combine_chunks()
        ).to_pylist()
        return [
            None if at is None or path in several else self.last_rows[at] for path, at in zip(paths, found, strict=True)
        ]

    def repeated_paths(self, paths: Sequence[str]) -> set[str]:
        """Those of the paths that several images have, each below a place of its own."""
        given = pc.is_in(self._last_paths, value_set=pa.array(paths, pa.string()))
        counts = pc.value_counts(self._last_paths.filter(given))
        return {each["values"] for each in counts.to_pylist() if each["counts"] > 1}

    @cached_property
    def _last_paths(self) -> pa.ChunkedArray:
        return self.table["path"].take(pa.array(self.last_rows, pa.int64()))

    def listed_paths(self, paths: Sequence[str]) -> set[str]:
        """Those of the paths that an image has."""
        return set(self.table["path"].filter(self._has(paths)).to_pylist())

    def rows_of_paths(self, paths: Sequence[str]) -> list[int]:
        """Every row that has one of the paths."""
        rows: list[int] = self._has(paths).to_numpy().nonzero()[0].tolist()
        return rows

    def _has(self, paths: Sequence[str]) -> pa.ChunkedArray:
        return pc.is_in(self.table["path"], value_set=pa.array(paths, pa.string()))


class Texts(Sequence[Any]):
    """A column of texts, each made when it is asked for: a list of them would take several times the memory."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column.combine_chunks()

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._column.take(pa.array(range(*index.indices(len(self))), pa.int64())).to_pylist()
        at = int(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"{at}: there are {len(self)} texts")
        return self._column[at % len(self)].as_py()

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield from self._column.slice(start, ROWS_AT_ONCE).to_pylist()


def empty_listing(*, labeled: bool = False) -> Listing:
    """No images."""
    return Listing((LABELED if labeled else UNLABELED).empty_table())


def read_listing(path: Path, *, labeled: bool = False) -> Listing:
    """The list in a Parquet file; an absent file is an empty list.

    Raises CorruptListing for a file that fkal did not write.
    """
    schema = LABELED if labeled else UNLABELED
    if not path.exists():
        return empty_listing(labeled=labeled)
    try:
        with open_regular(path) as file:
            # Arrow's threads may hold the file when the interpreter ends, which aborts it (apache/arrow#34314).
            table = pq.read_table(file, use_threads=False, pre_buffer=False)
        _refuse_other_part(table.schema, path)
        grouped_by = (table.schema.metadata or {}).get(GROUPED_BY)
        table = table.select(schema.names).cast(schema)
        _refuse_odd(table)
    except (PermissionError, IrregularFile) as error:
        raise CorruptListing(
            f"{path}: cannot be read: {error.strerror}; let this user read a regular file there"
        ) from None
    except (pa.ArrowException, KeyError, OSError, _OddColumn) as error:
        raise CorruptListing(
            f"{path}: not a list of images that fkal wrote ({_first(error)}); take it back from git, "
            "or remove it and run fkal init again"
        ) from error
    return Listing(table, None if grouped_by is None else grouped_by.decode(errors="replace"))


class _OddColumn(ValueError):
    """A value that no list has, or not this one."""


def _refuse_other_part(schema: pa.Schema, path: Path) -> None:
    """Lists of earlier versions do not say of which part they are."""
    part = (schema.metadata or {}).get(PART, path.stem.encode()).decode(errors="replace")
    if part != path.stem:
        raise _OddColumn(f"it is the list {shortened(part)}")


def _refuse_odd(table: pa.Table) -> None:
    """Raises _OddColumn; by columns, since a list may have a million rows."""
    odd = {
        "path": pc.or_kleene(pc.is_null(table["path"]), pc.match_substring_regex(table["path"], r"^$|\x00")),
        "digest": pc.invert(pc.match_substring_regex(table["digest"], f"^(?:{FILE_DIGEST.pattern})$")),
        "root": pc.or_kleene(pc.is_null(table["root"]), pc.less(table["root"], 0)),
        "width": pc.less(table["width"], 1),
        "height": pc.less(table["height"], 1),
    }
    for name, found in odd.items():
        if pc.any(found).as_py():
            value = table[name].filter(pc.fill_null(found, False))[0].as_py()
            raise _OddColumn(f"{name} {shortened(value)}")


def write_listing(
    path: Path, images: Iterable[ListedImage], *, labeled: bool = False, grouped_by: str | None = ""
) -> int:
    """Writes a list, whole or not at all, some thousand rows at a time; returns how many rows it has."""
    about = {PART: path.stem} | ({} if grouped_by is None else {GROUPED_BY: grouped_by})
    schema = (LABELED if labeled else UNLABELED).with_metadata(about)
    written = 0
    with whole_file(path) as scratch, pq.ParquetWriter(scratch, schema, compression="zstd") as file:
        for rows in _blocks(images):
            file.write_table(_table(rows, schema))
            written += len(rows)
    return written


def _blocks(images: Iterable[ListedImage]) -> Iterator[list[ListedImage]]:
    rows: list[ListedImage] = []
    for image in images:
        rows.append(image)
        if len(rows) == ROWS_AT_ONCE:
            yield rows
            rows = []
    if rows:
        yield rows


def _table(rows: Sequence[ListedImage], schema: pa.Schema) -> pa.Table:
    columns = {name: [getattr(image, name) for image in rows] for name in schema.names}
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema)


def _listed(row: dict[str, Any]) -> ListedImage:
    return ListedImage(**{**row, "duplicates": tuple(row["duplicates"] or ())})


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
