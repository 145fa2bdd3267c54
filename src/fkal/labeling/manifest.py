"""Manifests: CSV, Parquet and JSON-lines files that list images by path or URL, read a block at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fkal.data.errors import printable
from fkal.data.regular_files import open_regular
from fkal.errors import ConfigError, did_you_mean, listed, shortened
from fkal.labeling.spreadsheets import LONGEST_CELL
from fkal.results.csv_files import plain_cell

EXTENSIONS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files of a Hugging Face `imagefolder` that list its images."""
PATHS = ("path", "file_name", "filename", "file", "filepath", "image_path", "image", "url", "uri")
LABELS = ("label", "class", "class_name", "category", "target")
GROUPS = ("group",)
DELIMITERS = ",;\t"
LONGEST_LINE = LONGEST_CELL
"""Bytes of a line."""
ROWS_AT_ONCE = 20_000


class Entry(NamedTuple):
    """One image of a source; `problem` says why a line names none."""

    path: str
    label: str | None = None
    group: str | None = None
    problem: str | None = None


def is_manifest(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in EXTENSIONS


def metadata_of(folder: Path) -> Path | None:
    """The file that lists the images of a Hugging Face `imagefolder`."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def manifest_entries(path: Path, *, labeled: bool, group: str | None = None) -> Iterator[Entry]:
    """The images that a manifest lists, in its order.

    With `labeled`, a column of labels is needed; `group` names another column of groups than `group`. A line of JSON
    may lack either, but not all of them. Raises ConfigError for a file that is no manifest or lacks a column.
    """
    kind = EXTENSIONS[path.suffix.lower()]
    rows = {"csv": _csv_rows, "json": _json_rows, "parquet": _parquet_rows}[kind](path)
    first: _Columns | None = None
    last: _Columns | None = None
    for line, row in rows:
        if last is None or last.names != tuple(row):
            last = _columns(row, group)
        if first is None:
            first = _with_paths(last, path)
        first = first._replace(label=first.label or last.label, group=first.group or last.group)
        yield _entry(row, last, f"{printable(path.name)}, line {line}", labeled=labeled)
    if first is not None:
        _refuse_lacking(first, path, labeled=labeled, group=group)


class _Columns(NamedTuple):
    """The names of a row's columns, and which of them hold the path, the class and the group."""

    names: tuple[str, ...]
    path: str | None
    label: str | None
    group: str | None


Row = tuple[int, Mapping[str, Any]]


def _csv_rows(path: Path) -> Iterator[Row]:
    """With or without a byte order mark; separated by comma, semicolon or tab, whichever the first line has."""
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            first, skipped = text.readline(LONGEST_LINE), 1
            if first.lower().startswith("sep=") and len(first.strip()) == len("sep=;"):  # Excel's own first line
                first, skipped = text.readline(LONGEST_LINE), 2
            delimiter = max(DELIMITERS, key=first.count)
            names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for cells in reader:
                line = reader.line_num + skipped
                if any(cells):
                    yield line, _row(names, cells, f"{path}: line {line}")
    except (csv.Error, UnicodeDecodeError) as error:
        reason = f"not UTF-8 at byte {error.start}" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigError(f"{path}: not a CSV file that can be read: {reason}; save it as CSV in UTF-8") from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _row(names: Sequence[str], cells: Sequence[str], where: str) -> Mapping[str, Any]:
    if len(cells) > len(names):
        raise ConfigError(f"{where}: {len(cells)} cells in a table of {len(names)} columns; put cells in quotes")
    short = [""] * (len(names) - len(cells))
    return {name: plain_cell(cell) for name, cell in zip(names, [*cells, *short], strict=True)}


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise ConfigError(f"{path}: line {number}: more than {LONGEST_LINE:,} bytes; give an object a line")
                if line.strip():
                    yield number, _json_row(line, f"{path}: line {number}")
    except OSError as error:
        raise _unreadable(path, error) from error


def _json_row(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: {shortened(line[:80])}: not JSON; give an object a line") from None
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: {shortened(row)}: not an object; give one with a path, say {{"path": ...}}')
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with open_regular(path) as file, pq.ParquetFile(file) as table:
            names = [name for name in table.schema_arrow.names if _is_plain(table.schema_arrow.field(name).type)]
            number = 0
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, columns=names, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise _unreadable(path, error) from error
        raise ConfigError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0][:200]})") from None


def _is_plain(kind: pa.DataType) -> bool:
    """Nested columns, images among them, are left on the disk."""
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _columns(row: Mapping[str, Any], group: str | None) -> _Columns:
    by_name = {name.strip().lower(): name for name in row}

    def first(names: Sequence[str]) -> str | None:
        return next((by_name[name] for name in names if name in by_name), None)

    own = group if group is None or group in row else None
    return _Columns(tuple(row), first(PATHS), first(LABELS), first(GROUPS) if group is None else own)


def _with_paths(columns: _Columns, path: Path) -> _Columns:
    if columns.path is None:
        raise ConfigError(
            f"{path}: has columns {printable(listed(columns.names)) or 'without names'}; one of them must name "
            f"the images: {', '.join(PATHS)}"
        )
    return columns


def _refuse_lacking(columns: _Columns, path: Path, *, labeled: bool, group: str | None) -> None:
    """Raises ConfigError for a column that no row has."""
    if labeled and columns.label is None:
        raise ConfigError(
            f"{path}: has columns {printable(listed(columns.names))}; one of them must name the classes: "
            f"{', '.join(LABELS)}"
        )
    if group is not None and columns.group is None:
        raise ConfigError(
            f"{path}: data.groups = {shortened(group)}: no such column; {did_you_mean(group, columns.names)}give a "
            "column, or a regular expression with captures, say ([^/]+)_[^/]*$"
        )


def _entry(row: Mapping[str, Any], columns: _Columns, where: str, *, labeled: bool) -> Entry:
    path = row[columns.path] if columns.path is not None else None
    if not isinstance(path, str) or not path.strip():
        return Entry(where, problem="names no image")
    group = _text(row[columns.group]) if columns.group is not None else None
    if not (_is_storable(path) and _is_storable(group or "")):
        return Entry(where, problem="has a zero byte, or letters that are no Unicode")
    if not labeled:
        return Entry(path, None, group)
    label, problem = _label(row[columns.label] if columns.label is not None else None)
    return Entry(path, label, group, problem)


def _label(value: Any) -> tuple[str | None, str | None]:
    """The name of a class, or why the value is none."""
    if isinstance(value, bool | list | dict):
        return None, f"its label {shortened(value)} is no name; give a text"
    label = _text(value)
    return label, "has no label" if label is None else None


def _is_storable(text: str) -> bool:
    """Whether a file can be named so, and a list can hold it: halves of a letter come from JSON."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and value.is_integer():  # pandas makes floats of whole numbers where one is missing
        value = int(value)
    return str(value).strip() or None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be read: {error.strerror or error}; name another file")
