"""CSV files that people edit: with a BOM, with `;` instead of `,`, quoted as spreadsheets quote, cells as text.

Imports no torch.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fkal.config.documents import file_bytes
from fkal.errors import ConfigError, did_you_mean, listed, shortened
from fkal.results.csv_files import plain_cell

DELIMITERS = (",", ";", "\t", "|")
LARGEST = 2**31
"""Bytes of a file that is read."""
LONGEST_CELL = 1_000_000
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

csv.field_size_limit(LONGEST_CELL)


class Row(NamedTuple):
    """A row and the line on which it begins."""

    line: int
    cells: dict[str, str]


class Sheet(NamedTuple):
    """A table of text: its columns in order, its rows, and what its cells are separated by."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str


def read_sheet(path: Path, *, required: Sequence[str] = (), where: str = "") -> Sheet:
    """The table of a file. Raises ConfigError for what is no such table, FileNotFoundError where there is none.

    Names of columns are read without spaces around them and in lower case.
    """
    where = where or str(path)
    return parse_sheet(decoded(file_bytes(path, where, most=LARGEST), where), required=required, where=where)


def decoded(content: bytes, where: str) -> str:
    """The text of a file that a spreadsheet may have saved. Raises ConfigError for an unknown encoding."""
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: byte {error.start} is not UTF-8; save the file as CSV UTF-8 (Excel: Save as, CSV UTF-8)"
        ) from None


def parse_sheet(text: str, *, required: Sequence[str] = (), where: str) -> Sheet:
    """The table of a text. Its first line names the columns; an Excel line `sep=;` may be before it."""
    delimiter, skipped, text = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(reader, required, where)
        rows = tuple(_rows(reader, columns, skipped, where))
    except csv.Error as error:
        raise ConfigError(f"{where}: line {reader.line_num + skipped}: {error}; save the file as CSV again") from None
    return Sheet(columns, rows, delimiter)


def sheet_form(text: str, *, required: Sequence[str] = (), where: str) -> tuple[tuple[str, ...], str]:
    """Its columns and what separates its cells, from its first line alone."""
    delimiter, _, text = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return _columns(reader, required, where), delimiter


def _separator(text: str) -> tuple[str, int, str]:
    """What separates cells, the lines before the names of the columns, and the text from those on.

    Excel's own first line `sep=;` says so. Otherwise it is the sign that the first line has most of outside quotes.
    """
    first, newline, rest = text.partition("\n")
    first = first.rstrip("\r")
    if newline and first.lower().startswith("sep=") and len(first) == len("sep=;"):
        return first[-1], 1, rest
    outside = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=outside.count), 0, text


def _columns(reader: Iterator[list[str]], required: Sequence[str], where: str) -> tuple[str, ...]:
    columns = tuple(name.strip().lower() for name in next(reader, []))
    if not any(columns):
        raise ConfigError(f"{where}: is empty; its first line names the columns{_wanted(required)}")
    twice = sorted(name for name, times in Counter(columns).items() if name and times > 1)
    if twice:
        raise ConfigError(f"{where}: column {twice[0]!r} is there more than once; keep one of them")
    missing = [name for name in required if name not in columns]
    if missing:
        found = listed([shortened(name) for name in columns])
        raise ConfigError(f"{where}: has no column {missing[0]!r}; {did_you_mean(missing[0], columns)}it has {found}")
    return columns


def _wanted(required: Sequence[str]) -> str:
    return f": {', '.join(required)}" if required else ""


def _rows(reader: Iterator[list[str]], columns: Sequence[str], skipped: int, where: str) -> Iterator[Row]:
    line = 2 + skipped
    for cells in reader:
        begins, line = line, reader.line_num + 1 + skipped  # type: ignore[attr-defined]
        if not any(cell.strip() for cell in cells):
            continue  # spreadsheets leave empty rows behind
        if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
            raise ConfigError(
                f"{where}: line {begins}: has {len(cells)} cells, but there are {len(columns)} columns; "
                "put cells that contain the separator in quotes"
            )
        filled = [*cells, *[""] * (len(columns) - len(cells))]
        yield Row(begins, {name: str(plain_cell(cell)) for name, cell in zip(columns, filled, strict=False)})
