"""Curves as a table: accuracy by round, without the experiments behind it."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from fkal.config.documents import file_bytes
from fkal.config.method_spec import long_method_name
from fkal.config.schema import CONTROL, LARGEST_HOLDOUT, LARGEST_SEED, LONGEST_METHOD, ConfigError
from fkal.data.settings import MOST_POOL_IMAGES, MOST_VALIDATION_IMAGES
from fkal.engine.settings import LOSSES
from fkal.errors import did_you_mean, shortened
from fkal.identifiers import DIGEST
from fkal.report.experiments import Material
from fkal.report.panels import ONCE, with_groups
from fkal.results.csv_files import plain_text
from fkal.results.curves import ACCURACY

LABELS_NONE = "validation_only"
"""The method that labels no image of the pool."""
NEEDED = ("dataset", "bias", "protocol", "method", "seed", "b", "labels_used")
MEASURED = (ACCURACY, "holdout/accuracy")
FRACTION = re.compile(r"(test|holdout|val)/(\w*accuracy|class_[0-9]+)")
MOST_BYTES = 200_000_000
MOST_COLUMNS = 2000
MOST_LABELS = 10**12
LISTED = 20
"""Problems that are listed."""
PROTOCOLS = ("last", "paper")

Read = Callable[[str], Any]


def from_curves(path: Path) -> Material:
    """The curves of a CSV as `fkal run` writes it beside its figures: one row per seed and round.

    Args:
        path: The file.

    Returns:
        The curves; what needs more than curves is left out of a report.

    Raises:
        ConfigError: The file is no such CSV; the message has one line per wrong cell.
    """
    names, rows = _table(path)
    lines = [line for line, _ in rows]
    frame = plain_text(pd.DataFrame(_columns(path, names, rows)))
    _refuse_unlabeled(path, frame, lines)
    _refuse_unmeasured(path, frame, lines)
    _refuse_repeated(path, frame, lines)
    _refuse_gaps(path, frame, lines)
    return Material(frame, (), ("--curves", str(path)), (f"{path}: curves alone, so what needs more is left out",))


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and each row with its line in the file."""
    try:
        text = file_bytes(path, str(path), most=MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: cannot be read as CSV: there is no such file; name a file of curves") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: cannot be read as CSV: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: cannot be read as CSV: {error}; correct the line") from None
    if not rows:
        raise ConfigError(f"{path}: cannot be read as CSV: it is empty; name a file of curves")
    names = rows[0][1]
    _refuse_header(path, names, rows=len(rows) - 1)
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise ConfigError(f"{path}, line {line}: {len(row)} cells, and the header names {len(names)}; correct it")
    return names, rows[1:]


def _refuse_header(path: Path, names: Sequence[str], *, rows: int) -> None:
    if len(names) > MOST_COLUMNS:
        raise ConfigError(f"{path}: {len(names):,} columns; give at most {MOST_COLUMNS:,}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{path}, line 1: the column {shortened(twice[0])} stands twice; give it once")
    missing = [name for name in NEEDED if name not in names]
    if not any(name in names for name in MEASURED):
        missing.append(" or ".join(MEASURED))
    if missing or not rows:
        near = did_you_mean(missing[0], names) if missing else ""
        raise ConfigError(f"{path}: has {rows} rows and lacks {missing}; {near}name a CSV that `fkal run` wrote")


def _columns(path: Path, names: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> Mapping[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    problems: list[str] = []
    for place, name in enumerate(names):
        read = _reader(name, [row[place] for _, row in rows])
        values = columns[name] = []
        for line, row in rows:
            try:
                values.append(read(row[place]))
            except ValueError as error:
                problems.append(f"{path}, line {line}: {shortened_name(name)} = {shortened(row[place])}: {error}")
    if problems:
        more = [f"{path}: and {len(problems) - LISTED:,} more"] if len(problems) > LISTED else []
        raise ConfigError("\n".join([*problems[:LISTED], *more]))
    return columns


def shortened_name(name: str) -> str:
    return name if len(name) <= LONGEST_METHOD and not CONTROL.search(name) else shortened(name)


def _reader(name: str, cells: Sequence[str]) -> Read:
    """What reads a cell of the column; of columns that fkal does not write, numbers where all are numbers."""
    if name in READ:
        return READ[name]
    if FRACTION.fullmatch(name):
        return _fraction
    if "/" in name:
        return _number
    try:
        for cell in cells:
            _number(cell)
    except ValueError:
        return _text_or_none
    return _number


def _text(cell: str) -> str:
    if not cell.strip():
        raise ValueError("it is empty; give a name")
    if len(cell) > LONGEST_METHOD:
        raise ValueError(f"give at most {LONGEST_METHOD} characters")
    if CONTROL.search(cell):
        raise ValueError("it has control characters; leave them out")
    return cell


def _method(cell: str) -> str:
    return long_method_name(_text(cell))


def _protocol(cell: str) -> str:
    if cell not in PROTOCOLS:
        raise ValueError(f"give {' or '.join(PROTOCOLS)}")
    return cell


def _digest(cell: str) -> str:
    """Of images; empty where it is not known."""
    if cell and not re.fullmatch(DIGEST, cell):
        raise ValueError("give 32 hexadecimal digits, or leave the cell empty")
    return cell


def _loss(cell: str) -> str:
    if cell not in LOSSES:
        raise ValueError(f"give {', '.join(LOSSES)}")
    return cell


def _flag(cell: str) -> bool:
    if cell.lower() not in ("true", "false"):
        raise ValueError("give True or False")
    return cell.lower() == "true"


def _text_or_empty(cell: str) -> str:
    return _text(cell) if cell else ""


def _text_or_none(cell: str) -> str | None:
    return _text(cell) if cell else None


def _whole(least: int, most: int) -> Read:
    """Reads a whole number between these, which may be written as 3.0."""

    def read(cell: str) -> int:
        digits = re.fullmatch(r"([0-9]{1,19})(\.0*)?", cell.strip())
        if digits is None or not least <= int(digits[1]) <= most:
            raise ValueError(f"give a whole number from {least} to {most}")
        return int(digits[1])

    return read


def _number(cell: str) -> float:
    """NaN of an empty cell."""
    if not cell.strip():
        return math.nan
    if re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", cell.strip()) is None:
        raise ValueError("give a number, or leave the cell empty")
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError("give a finite number, or leave the cell empty")
    return value


def _fraction(cell: str) -> float:
    value = _number(cell)
    if value < 0 or value > 1:
        raise ValueError("accuracies are fractions; give 0 to 1")
    return value


READ: Mapping[str, Read] = MappingProxyType(
    {
        "dataset": _text,
        "data": _digest,
        "holdout": _whole(0, LARGEST_HOLDOUT),
        "validation_per_class": _whole(0, MOST_VALIDATION_IMAGES),
        "per_class": _whole(0, MOST_POOL_IMAGES),
        "groups": _text_or_empty,
        "loss": _loss,
        "on_validation": _flag,
        "bias": _text,
        "protocol": _protocol,
        "method": _method,
        "seed": _whole(0, LARGEST_SEED),
        "b": _whole(1, MOST_LABELS),
        "labels_used": _whole(0, MOST_LABELS),
    }
)


def _refuse_unlabeled(path: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    """Raises ConfigError where a method that labels images has none; `validation_only` labels none."""
    names = frame["method"].str.split("[:@]").str[0]
    wrong = ((frame["labels_used"] < 1) & (names != LABELS_NONE)).to_numpy()
    if wrong.any():
        place = int(wrong.argmax())
        raise ConfigError(f"{path}, line {lines[place]}: labels_used = 0: give a whole number from 1 to {MOST_LABELS}")


def _refuse_unmeasured(path: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    measured = [name for name in MEASURED if name in frame]
    without = [line for line, none in zip(lines, frame[measured].isna().all(axis=1), strict=True) if none]
    if without:
        raise ConfigError(f"{path}, line {without[0]}: {' and '.join(measured)} are empty; each row has an accuracy")


def _refuse_repeated(path: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    """Raises ConfigError where a round stands twice, or has no more labels than the one before it."""
    grouped = with_groups(frame)
    twice = grouped.duplicated([*ONCE, "budget", "most"])
    if twice.any():
        place = int(twice.to_numpy().argmax())
        row = frame.iloc[place]
        raise ConfigError(
            f"{path}, line {lines[place]}: round {row['b']} of {row['method']}, seed {row['seed']}, stands there "
            f"more than once ({twice.sum()} rows too many); remove them"
        )
    for place, before in _falling(grouped):
        row = frame.iloc[place]
        raise ConfigError(
            f"{path}, line {lines[place]}: round {row['b']} of {row['method']}, seed {row['seed']}, has "
            f"{row['labels_used']} labels, and the one before it {before}; labels grow from round to round"
        )


def _refuse_gaps(path: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    """Raises ConfigError where a round lies between others and is not there: the area would be of other labels."""
    run = _run(frame)
    ordered = with_groups(frame).reset_index(drop=True).sort_values("b", kind="stable")
    before = ordered.groupby(run, dropna=False)["b"].shift()
    for place in ordered.index[(before + 1 < ordered["b"]).to_numpy()]:
        row = frame.iloc[place]
        raise ConfigError(
            f"{path}, line {lines[place]}: round {row['b']} of {row['method']}, seed {row['seed']}, comes after round "
            f"{int(before[place])}; add the rounds between them"
        )


def _run(frame: pd.DataFrame) -> list[str]:
    """The columns that tell one run's rows from those of others."""
    return [name for name in ONCE if name != "b"] + (["fingerprint"] if "fingerprint" in frame else [])


def _falling(grouped: pd.DataFrame) -> Iterator[tuple[int, int]]:
    """Rows whose labels are no more than those of the round before, with these."""
    run = _run(grouped)
    ordered = grouped.reset_index(drop=True).sort_values("b", kind="stable")
    before = ordered.groupby(run, dropna=False)["labels_used"].shift()
    for place in ordered.index[(before >= ordered["labels_used"]).to_numpy()]:
        yield int(place), int(before[place])
