"""Labels as other programs write them: CSV, Label Studio's JSON, JSON-MIN and CSV, a folder per class.

They are read as they are; `importing` decides what they mean for a project. Imports no torch.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkal.config.documents import file_bytes
from fkal.data.errors import IncompleteData, MissingData
from fkal.data.regular_files import open_regular
from fkal.data.tree_files import class_folders, images_below
from fkal.errors import ConfigError, shortened
from fkal.labeling.label_store import STATUSES, seconds_of
from fkal.labeling.spreadsheets import LARGEST, Row, decoded, parse_sheet

CONTROL = "label"
"""The name of the choice in the labeling interface that fkal gives Label Studio."""
PATH_FIELD, DIGEST_FIELD = "fkal_path", "fkal_digest"
"""Our own fields of a task. Label Studio gives them back in JSON, JSON-MIN and CSV."""
CHECK_FIELD = "fkal_check"
"""The batch of `fkal relabel` that a task is of; other tasks lack it."""
NONE_OF_THESE = "none_of_these"
"""A label that means that no class fits, where no class has this name."""
SKIPPED_THERE = "skipped in Label Studio"
UNSORTED, SKIPPED = "_unsorted", "_skipped"
"""Folders beside those of classes, as `fkal label export --to imagefolder` makes them."""
OTHER_FOLDERS = {UNSORTED: "", SKIPPED: "skipped", f"_{NONE_OF_THESE}": NONE_OF_THESE}


@dataclass(frozen=True)
class GivenLabel:
    """One label of one image; `where` says in which file and line. An empty label with an empty status is none yet.

    `check` names the batch of a second look (`fkal relabel`). It is empty where the label is known to be of none, and
    None where nothing says so.
    """

    where: str
    path: str
    digest: str = ""
    label: str = ""
    status: str = ""
    reason: str = ""
    annotator: str = ""
    seconds: float | None = None
    check: str | None = None


def read_given_labels(path: Path) -> list[GivenLabel]:
    """The labels of a file or of a folder per class. Raises ConfigError for what is none of the formats."""
    if path.is_dir():
        return list(_from_folders(path))
    try:
        text = decoded(file_bytes(path, str(path), most=LARGEST), str(path))
    except FileNotFoundError:
        raise MissingData(f"{path}: there is no such file or folder; check the name") from None
    if text.lstrip()[:1] in ("[", "{"):
        return from_json(text, str(path))
    sheet = parse_sheet(text, where=str(path))
    paths, digests = _first_of(sheet.columns, PATH_FIELD, "path"), _first_of(sheet.columns, DIGEST_FIELD, "digest")
    if not (paths or digests) or CONTROL not in sheet.columns:
        raise ConfigError(
            f"{path}: line 1: has no columns path or digest, and label; it has {', '.join(sheet.columns) or 'none'}"
        )
    return [_from_row(row, f"{path}: line {row.line}", paths, digests) for row in sheet.rows]


def from_json(text: str, where: str) -> list[GivenLabel]:
    """Label Studio's JSON, which has annotations, or its JSON-MIN, which has a label by task."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid JSON: {error}; export it again") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ConfigError(f"{where}: not a list of tasks; export JSON or JSON-MIN from Label Studio")
    return [given for number, task in enumerate(tasks, 1) for given in _from_task(task, number, where)]


def _from_task(task: Mapping[str, Any], number: int, where: str) -> Iterator[GivenLabel]:
    place = f"{where}: task {task.get('id', number)}"
    has_annotations = "annotations" in task
    data = task.get("data") if has_annotations else task
    if not isinstance(data, Mapping) or not (data.get(PATH_FIELD) or data.get(DIGEST_FIELD)):
        raise ConfigError(
            f"{place}: has no {DIGEST_FIELD}; only tasks that came from fkal can be joined (fkal label push, or "
            "fkal label export --to labelstudio)"
        )
    image = str(data.get(PATH_FIELD, "")), str(data.get(DIGEST_FIELD, ""))
    check = check_of(data)
    if not has_annotations:
        yield GivenLabel(
            place, *image, _one_choice(task.get(CONTROL), place),
            annotator=_annotator(task.get("annotator")), seconds=_seconds(task.get("lead_time"), place),
            check=check,
        )  # fmt: skip
        return
    annotations = task["annotations"]
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        raise ConfigError(f"{place}: annotations are no list; export the project again as JSON")
    latest = sorted(annotations, key=lambda each: str(each.get("updated_at", "")))
    by_annotator = {_annotator(each.get("completed_by")): each for each in latest}
    if not by_annotator:
        yield GivenLabel(place, *image, check=check)
    for annotator, each in by_annotator.items():
        is_skip = bool(each.get("was_cancelled"))
        yield GivenLabel(
            place,
            *image,
            label="" if is_skip else _one_choice(_result(each, place), place),
            status="skipped" if is_skip else "",
            reason=SKIPPED_THERE if is_skip else "",
            annotator=annotator,
            seconds=_seconds(each.get("lead_time"), place),
            check=check,
        )


def check_of(data: Mapping[str, Any]) -> str | None:
    """The batch of the check that a task is of; None where the task does not say."""
    value = data.get(CHECK_FIELD)
    return (value.strip() or None) if isinstance(value, str) else None


def _result(annotation: Mapping[str, Any], place: str) -> Any:
    """The choices of an annotation."""
    results = annotation.get("result")
    if not isinstance(results, list):
        raise ConfigError(f"{place}: an annotation has no result; export the project again as JSON")
    chosen = [each.get("value") for each in results if isinstance(each, dict) and each.get("type") == "choices"]
    names: list[Any] = []
    for value in chosen:
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
            raise ConfigError(f"{place}: its choices are no list of names; export the project again as JSON")
        names += value["choices"]
    return names


def _one_choice(value: Any, place: str) -> str:
    """The one class that was chosen; empty where none was."""
    if isinstance(value, Mapping):
        value = value.get("choices")
    names = value if isinstance(value, list) else [] if value in (None, "") else [value]
    if len(names) > 1 or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{place}: has the choices {shortened(names)}; each image has one class")
    return names[0] if names else ""


def _annotator(value: Any) -> str:
    """An address where the export has one, else a number."""
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("id")
    return "" if value is None else str(value)


def _from_row(row: Row, where: str, paths: str, digests: str) -> GivenLabel:
    cells = row.cells
    status = cells.get("status", "").strip()
    if status not in ("", *STATUSES):
        raise ConfigError(f"{where}: status {shortened(status)}: give {', '.join(STATUSES)} or leave it empty")
    if status == "undone":
        raise ConfigError(f"{where}: status undone: take labels back with fkal label undo; leave the row out")
    return GivenLabel(
        where,
        cells.get(paths, "").strip(),
        cells.get(digests, "").strip().lower(),
        cells[CONTROL].strip(),
        status,
        cells.get("reason", "").strip(),
        cells.get("annotator", "").strip(),
        _seconds(cells.get("seconds") or cells.get("lead_time"), where),
        cells.get(CHECK_FIELD, "").strip() or None,
    )


def _from_folders(folder: Path) -> Iterator[GivenLabel]:
    """Each image by its content and by its name; what is no image is named, since it may have been one."""
    left_out: Counter[str] = Counter()
    flawed: list[tuple[str, str]] = []
    for name in _class_folders(folder, left_out):
        status = OTHER_FOLDERS.get(name)
        for image in images_below(folder / name, left_out, flawed):
            path = folder / name / image
            yield GivenLabel(str(path), image, digest_of(path), name if status is None else "", status or "")
    if flawed:
        raise ConfigError("\n".join(f"{path}: {reason}; remove it" for path, reason in flawed))


def _class_folders(folder: Path, left_out: Counter[str]) -> list[str]:
    try:
        return list(class_folders(folder, left_out))
    except MissingData as error:
        raise IncompleteData(
            f"{error}; labels are a folder per class, CLASS/*, or a file with a column label"
        ) from error


def digest_of(path: Path) -> str:
    """SHA-256 of the bytes."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_of(columns: Iterable[str], *names: str) -> str:
    known = set(columns)
    return next((name for name in names if name in known), "")


def _seconds(value: Any, where: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        return seconds_of(str(value))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
