"""labels.csv: every label that was given, one row each, appended and never rewritten by fkal.

Per image and annotator the last row counts. A row `undone` takes back the row before it, so that the one before that
counts again. People may edit the file: it is read each time, and appended to in the form in which it was saved.
Imports no torch.
"""

import csv
import getpass
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fkal.atomic_files import naming, write_whole
from fkal.config.documents import file_bytes
from fkal.errors import MOST_NAMES, ConfigError, did_you_mean, shortened
from fkal.escaping import one_line
from fkal.folders import in_place
from fkal.identifiers import FILE_DIGEST
from fkal.labeling.spreadsheets import (
    BYTE_ORDER_MARK,
    LARGEST,
    UTF16_MARKS,
    Row,
    decoded,
    parse_sheet,
    sheet_form,
)
from fkal.locks import NamedLock
from fkal.results.csv_files import csv_rows

LABELS = "labels.csv"
LOCK = "labels.lock"
"""Below `.fkal/`: held while rows are appended. The project's own lock is for commands; a page may append while one
trains."""

Status = Literal["labeled", "skipped", "none_of_these", "undone"]
MOST_SECONDS = 10**9
"""Of one label; thirty years."""
STATUSES: tuple[Status, ...] = ("labeled", "skipped", "none_of_these", "undone")
Resolve = Literal["error", "latest", "majority"]


@dataclass(frozen=True)
class LabelRow:
    """One row. `source` names how the label came in: `page`, `import NAME` or whatever wrote it.

    `line` is where the row is in the file, 0 before it is written.
    """

    path: str
    digest: str
    label: str
    status: Status = "labeled"
    reason: str = ""
    round: str = ""
    batch: str = ""
    source: str = ""
    annotator: str = ""
    seconds: float | None = None
    time: str = ""
    line: int = 0


COLUMNS = tuple(each.name for each in fields(LabelRow) if each.name != "line")
PAGE = "page"
"""The source of rows that the labeling page writes."""
INIT = "init"
"""The source of labels that came with `fkal init --labeled`."""
REQUIRED = ("path", "digest", "label", "status")
END_OF_TIME = "+00:00"


class Conflict(NamedTuple):
    """An image about which annotators disagree: the rows that count, one per annotator."""

    digest: str
    rows: tuple[LabelRow, ...]

    def __str__(self) -> str:
        said = ", ".join(f"{row.annotator or 'nobody named'}: {row.label or row.status}" for row in self.rows)
        return f"{self.rows[-1].path}: {said}"


class Resolved(NamedTuple):
    """One row per image, and the images on which annotators disagree and the rule does not decide."""

    rows: dict[str, LabelRow]
    conflicts: tuple[Conflict, ...]

    @property
    def labels(self) -> dict[str, str]:
        """The class of each labeled image, by digest."""
        return {digest: row.label for digest, row in self.rows.items() if row.status == "labeled"}

    def refuse_conflicts(self) -> None:
        """Raises ConfigError that names them, a line each."""
        if not self.conflicts:
            return
        more = len(self.conflicts) - MOST_NAMES
        lines = [f"{LABELS}: annotators disagree on {conflict}" for conflict in self.conflicts[:MOST_NAMES]]
        lines += [f"{LABELS}: and on {more} more images"] if more > 0 else []
        way_out = "label them again as one annotator, or set labels.resolve to latest or majority in params.yaml"
        raise ConfigError("\n".join([*lines, way_out]))


class LabelStore:
    """The labels of the project in `folder`; `answers.label_store` opens that of a Project.

    `digest_of` gives the digest of a path, empty if unknown, for rows that people wrote without one.
    """

    def __init__(self, folder: Path, digest_of: Callable[[str], str] | None = None) -> None:
        self.path = folder / LABELS
        self._folder = folder
        self._digest_of = digest_of or _unknown

    def rows(self) -> list[LabelRow]:
        """All rows in order.

        Raises ConfigError with a line per row that cannot be read. A last line that a kill tore is left out.
        """
        content = self._content()
        if not content:
            return []
        return _parsed(_whole_text(decoded(content, LABELS)), self._digest_of)

    def append(self, rows: Sequence[LabelRow]) -> None:
        """Write the rows to the disk, all or none of them, whatever kills the process."""
        if not rows:
            return
        with self._lock():
            self._append(rows)

    def undo(self, chosen: Callable[[list[LabelRow]], list[LabelRow]], *, time: str) -> list[LabelRow]:
        """Take back the rows that `chosen` finds among all rows, and return them."""
        with self._lock():
            undone = chosen(self.rows())
            if undone:
                self._append([taken_back(row, time=time) for row in undone])
        return undone

    def _append(self, rows: Sequence[LabelRow]) -> None:
        """One row is appended in place. Several, or a file that needs mending first, are written as a new file."""
        path = in_place(self._folder, LABELS)
        self._remove_scratch()
        before = self._content()
        text = _whole_text(decoded(before, LABELS)) if before else csv_rows([COLUMNS])
        columns, delimiter = sheet_form(text, required=REQUIRED, where=LABELS)
        cells = [[_cell(row, name) for name in columns] for row in rows]
        added = csv_rows(cells, delimiter=delimiter)
        is_utf16 = before.startswith(UTF16_MARKS)
        if len(rows) == 1 and before.endswith(b"\n") and not is_utf16:
            with naming(path), path.open("ab") as file:
                file.write(added.encode())
                file.flush()
                os.fsync(file.fileno())
            return
        mark = BYTE_ORDER_MARK if is_utf16 or before.startswith(BYTE_ORDER_MARK) else b""
        write_whole(path, mark + (text if text.endswith("\n") else f"{text}\n").encode() + added.encode())

    def _content(self) -> bytes:
        try:
            return file_bytes(self.path, str(self.path), most=LARGEST)
        except FileNotFoundError:
            return b""

    def _lock(self) -> NamedLock:
        place = self._folder / ".fkal"
        place.mkdir(exist_ok=True)
        return NamedLock(place / LOCK, _patient)

    def _remove_scratch(self) -> None:
        """What killed processes left; nobody else writes while the lock is held."""
        for scratch in self._folder.glob(f".{LABELS}.*.tmp"):
            with suppress(FileNotFoundError):
                scratch.unlink()


def now() -> str:
    """The time of a row in UTC. Rows of one import have one time, by which `undo` knows them."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def live_rows(rows: Iterable[LabelRow]) -> list[LabelRow]:
    """Rows that no `undone` took back, in order; later rows of an annotator hide earlier ones but do not end them."""
    stacks: dict[tuple[str, str], list[tuple[int, LabelRow]]] = {}
    for place, row in enumerate(rows):
        stack = stacks.setdefault((row.digest, row.annotator), [])
        if row.status != "undone":
            stack.append((place, row))
            continue
        taken = _taken_back_by(row, stack)
        if taken is not None:
            stack.pop(taken)
    return [row for _, row in sorted((each for stack in stacks.values() for each in stack), key=lambda each: each[0])]


def current_rows(rows: Iterable[LabelRow]) -> list[LabelRow]:
    """The last live row of each image and annotator, in order of the file."""
    last: dict[tuple[str, str], LabelRow] = {}
    for row in live_rows(rows):
        last.pop((row.digest, row.annotator), None)
        last[row.digest, row.annotator] = row
    return list(last.values())


def resolved(rows: Iterable[LabelRow], rule: Resolve) -> Resolved:
    """One answer per image. A skip counts only where nobody answered.

    `error`: annotators who disagree are a conflict. `latest`: the last row of the file. `majority`: the answer that
    most annotators gave; where two have equally many, a conflict.
    """
    by_image: dict[str, list[LabelRow]] = {}
    for row in current_rows(rows):
        by_image.setdefault(row.digest, []).append(row)
    chosen: dict[str, LabelRow] = {}
    conflicts: list[Conflict] = []
    for digest, given in by_image.items():
        answers = [row for row in given if row.status != "skipped"] or given
        decided = _decided(answers, rule)
        if decided is None:
            conflicts.append(Conflict(digest, tuple(answers)))
        else:
            chosen[digest] = decided
    return Resolved(chosen, tuple(conflicts))


def last_action(rows: Sequence[LabelRow], annotator: str | None = None) -> list[LabelRow]:
    """The live rows of the last import, or of the last batch that was labeled on the page."""
    live = [row for row in live_rows(rows) if annotator is None or row.annotator == annotator]
    if not live:
        return []
    action = _action(live[-1])
    return [row for row in live if _action(row) == action]


def last_answer(rows: Sequence[LabelRow], *, batch: str, annotator: str) -> list[LabelRow]:
    """What an annotator answered last on the page: one row, or those that were confirmed together."""
    given = [row for row in live_rows(rows) if (row.source, row.batch, row.annotator) == (PAGE, batch, annotator)]
    return [row for row in given if row.time == given[-1].time]


def taken_back(row: LabelRow, *, time: str) -> LabelRow:
    """The row that takes this one back; it has its source and batch, so that it cannot take back another."""
    said = row.label or row.status
    return replace(row, label="", status="undone", reason=f"was {said}", seconds=None, time=time, line=0)


def unknown_classes(rows: Iterable[LabelRow], classes: Sequence[str]) -> list[str]:
    """A line per class of the labels that classes.txt does not have."""
    known = set(classes)
    first: dict[str, LabelRow] = {}
    count: Counter[str] = Counter()
    for row in current_rows(rows):
        if row.status == "labeled" and row.label not in known:
            first.setdefault(row.label, row)
            count[row.label] += 1
    return [
        f"{LABELS}: line {row.line}: class {shortened(label)} ({count[label]} images) is not in classes.txt; "
        f"{did_you_mean(label, classes)}correct the rows, or add the class to classes.txt"
        for label, row in first.items()
    ]


def _action(row: LabelRow) -> tuple[str, str, str]:
    """Rows of one import have one source and time. Rows of the page have the batch in common."""
    return (row.source, row.batch, "") if row.source == PAGE else (row.source, "", row.time)


def _taken_back_by(row: LabelRow, stack: Sequence[tuple[int, LabelRow]]) -> int | None:
    """The last row of the stack that has the source and batch of `row`; a hand-written one may name neither."""
    for place in range(len(stack) - 1, -1, -1):
        other = stack[place][1]
        if row.source in ("", other.source) and row.batch in ("", other.batch):
            return place
    return None


def _decided(rows: Sequence[LabelRow], rule: Resolve) -> LabelRow | None:
    votes = Counter((row.status, row.label) for row in rows)
    if len(votes) == 1 or rule == "latest":
        return rows[-1]
    if rule == "error":
        return None
    (first, most), (_, second) = votes.most_common(2)
    if most == second:
        return None
    return [row for row in rows if (row.status, row.label) == first][-1]


def _whole_text(text: str) -> str:
    """The text without a last line that a kill tore: one without a line feed, of a row of ours that is not whole."""
    head, newline, tail = text.rpartition("\n")
    if not tail or not newline:
        return text
    columns, delimiter = sheet_form(text, required=REQUIRED, where=LABELS)
    try:
        (cells,) = csv.reader([tail], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return f"{head}\n"
    return text if _is_whole(dict(zip(columns, cells, strict=False)), len(columns)) else f"{head}\n"


def _is_whole(cells: Mapping[str, str], n_columns: int) -> bool:
    """Rows of ours have a digest, a source and a time, in this order; people may leave out each of them."""
    if len(cells) < n_columns:
        return bool(cells.get("label")) and not cells.get("digest")
    return not cells.get("source") or cells.get("time", END_OF_TIME).endswith(END_OF_TIME)


def _parsed(text: str, digest_of: Callable[[str], str]) -> list[LabelRow]:
    sheet = parse_sheet(text, required=REQUIRED, where=LABELS)
    rows, problems = [], []
    for row in sheet.rows:
        try:
            rows.append(_label_row(row, digest_of))
        except ConfigError as error:
            problems.append(f"{LABELS}: line {row.line}: {error}")
    if problems:
        more = len(problems) - MOST_NAMES
        raise ConfigError("\n".join([*problems[:MOST_NAMES], *([f"and {more} more lines"] if more > 0 else [])]))
    return rows


def _label_row(row: Row, digest_of: Callable[[str], str]) -> LabelRow:
    cells: dict[str, Any] = {name: row.cells.get(name, "").strip() for name in COLUMNS}
    cells["path"] = row.cells["path"]
    cells["status"] = cells["status"] or "labeled"
    if cells["status"] not in STATUSES:
        hint = did_you_mean(cells["status"], STATUSES)
        raise ConfigError(f"status {shortened(cells['status'])}: {hint}give {', '.join(STATUSES)}")
    if cells["status"] == "labeled" and not cells["label"]:
        raise ConfigError("a labeled image without a label; fill it, or give the status skipped")
    cells["digest"] = cells["digest"].lower() or digest_of(cells["path"])
    if cells["digest"] and not FILE_DIGEST.fullmatch(cells["digest"]):
        raise ConfigError(f"digest {shortened(cells['digest'])}: give the 64 digits of the SHA-256, or leave it empty")
    if not cells["digest"]:
        raise ConfigError(f"{shortened(cells['path'])} is no image of the project and has no digest; correct the path")
    cells["seconds"] = seconds_of(cells["seconds"])
    return LabelRow(**cells, line=row.line)


def seconds_of(text: str) -> float | None:
    """What a cell says; None of an empty one. Raises ConfigError for what no label can take."""
    if not text:
        return None
    try:
        seconds = float(text.replace(",", "."))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MOST_SECONDS:
        raise ConfigError(f"seconds {shortened(text)}: give a number from 0 to {MOST_SECONDS:,}, or leave it empty")
    return seconds


def _cell(row: LabelRow, name: str) -> object:
    value = getattr(row, name) if name in COLUMNS else None
    return "" if value is None else one_line(value) if isinstance(value, str) else value


def login() -> str:
    """The annotator where none is named: last rows count per annotator, so one person needs one name everywhere."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in the system's list
        return ""


def _unknown(_path: str) -> str:
    return ""


def _patient(_message: str) -> None:
    """Whoever holds the lock appends rows, which takes moments."""
