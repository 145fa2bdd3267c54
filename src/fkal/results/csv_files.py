"""CSV for people, who open it in a spreadsheet: no cell of text is taken for a formula.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a line feed gets an apostrophe in front, as spreadsheets
themselves mark text. Numbers are left alone, also those that a column of text holds. `plain_text` takes the
apostrophe off again, so that what `fkal report --curves` reads is what was written; characters that no file can hold
stay escaped.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

import pandas as pd

from fkal.escaping import printable

FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def csv_bytes(table: pd.DataFrame) -> bytes:
    return csv_text(table).encode()


def csv_text(table: pd.DataFrame) -> str:
    """A row a line, without the index."""
    safe = {place: [csv_safe(cell) for cell in column] for place, column in _texts(table)}
    table = table.copy(deep=False)
    for place, cells in safe.items():
        table.isetitem(place, pd.Series(cells, index=table.index, dtype=object))
    table.columns = pd.Index([csv_safe(name) for name in table.columns])
    return table.to_csv(index=False, lineterminator="\n")


def csv_rows(rows: Iterable[Sequence[object]], *, delimiter: str = ",") -> str:
    """Rows without a table: a line each, as `csv_text` writes them."""
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=delimiter, lineterminator="\n")
    writer.writerows([csv_safe(cell) for cell in row] for row in rows)
    return content.getvalue()


def csv_safe(cell: object) -> object:
    """Text that a spreadsheet shows and does not compute; anything else as it is."""
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def plain_text(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from such a file, with its text as it was before."""
    table = table.copy(deep=False)
    for place, column in _texts(table):
        table.isetitem(place, column.map(plain_cell))
    return table


def plain_cell(cell: object) -> object:
    """What `csv_safe` wrote, without the apostrophe that it put in front."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and FORMULA.match(cell) else cell


def _texts(table: pd.DataFrame) -> list[tuple[int, pd.Series]]:
    """The columns that hold text, by their place: names may occur twice."""
    columns = ((place, table.iloc[:, place]) for place in range(table.shape[1]))
    return [(place, each) for place, each in columns if _may_hold_text(each)]


def _may_hold_text(column: pd.Series) -> bool:
    kinds = pd.api.types
    return bool(kinds.is_object_dtype(column) or kinds.is_string_dtype(column) or column.dtype == "category")
