"""quarantine.csv: the files that are set aside, and why. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from fkal.atomic_files import write_whole
from fkal.labeling.label_store import now
from fkal.labeling.spreadsheets import read_sheet
from fkal.results.csv_files import csv_rows

LEAK, CONTRADICTION, UNLISTED, CHANGED = "leak", "contradiction", "unlisted", "changed"
"""Flaws that are not those of one file by itself."""


@dataclass(frozen=True)
class SetAside:
    """One file. `part` is pool, validation or test; `root` counts its places in the params file."""

    path: str
    reason: str
    flaw: str
    part: str
    root: int = 0
    digest: str = ""
    time: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        return self.part, self.root, self.path


COLUMNS = tuple(each.name for each in fields(SetAside))


def read_quarantine(path: Path) -> list[SetAside]:
    """All rows; an absent file has none. Raises ConfigError for a file that cannot be read."""
    try:
        sheet = read_sheet(path, required=("path", "reason", "flaw", "part"), where=str(path))
    except FileNotFoundError:
        return []
    return [_set_aside(row.cells) for row in sheet.rows]


def update_quarantine(path: Path, rows: Iterable[SetAside], *, replaced: Callable[[SetAside], bool]) -> None:
    """Puts these rows in the place of those for which `replaced` holds; a row that was there keeps its time."""
    before = read_quarantine(path)
    times = {(row.key, row.reason): row.time for row in before}
    time = now()
    kept = {row.key: row for row in before if not replaced(row)}
    kept |= {row.key: replace(row, time=times.get((row.key, row.reason)) or time) for row in rows}
    after = list(kept.values())
    if after != before:
        cells = [list(asdict(row).values()) for row in after]
        write_whole(path, csv_rows([COLUMNS, *cells]).encode())


def _set_aside(cells: Mapping[str, str]) -> SetAside:
    texts = {name: cells.get(name, "") for name in ("path", "reason", "flaw", "part", "digest", "time")}
    root = cells.get("root", "")
    return SetAside(**texts, root=int(root) if root.isdigit() else 0)
