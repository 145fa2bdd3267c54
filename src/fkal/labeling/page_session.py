"""What the labeling page shows and takes: one batch, split among annotators, each answer written at once."""

import math
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from fkal.errors import ConfigError, did_you_mean, shortened
from fkal.labeling.answers import label_store
from fkal.labeling.batch import Batch, Kind
from fkal.labeling.label_store import PAGE, LabelRow, Status, last_answer, live_rows, now
from fkal.labeling.page_images import BatchImages
from fkal.labeling.project import Project, new_class_problem

GIVEN: tuple[Status, ...] = ("labeled", "skipped", "none_of_these")
NEXT: Mapping[Kind, str] = {
    "select": "fkal next",
    "relabel": "fkal next",
    "audit": "fkal status",
    "validation": "fkal select",
}
"""The command that goes on once a batch is labeled."""
MOST_AT_ONCE = 100
LONGEST_REASON = 500
MOST_SECONDS = 86_400.0
SKIP_REASONS = ("not clear enough to tell", "more than one class", "cut off or hidden", "broken image")


class LabelingSession:
    """One batch on the page. Methods are called by several threads at once."""

    def __init__(
        self,
        project: Project,
        batch: Batch,
        annotators: Sequence[str],
        *,
        overlap: int = 0,
        shows_guesses: bool = True,
        allows_new_classes: bool = False,
    ) -> None:
        self.project = project
        self.batch = batch
        self.annotators = tuple(annotators)
        self.images = BatchImages(project, batch)
        self.run = secrets.token_hex(8)
        """Tells this session from another one at the same address."""
        self._store = label_store(project)
        self._shows_guesses = shows_guesses
        self._allows_new_classes = allows_new_classes
        self._shares = shares(len(batch.images), len(self.annotators), overlap)
        self._writing = threading.Lock()

    def view(self, annotator: str) -> dict[str, Any]:
        """All that the page shows to an annotator, as JSON."""
        answers = self.batch.answers(live_rows(self._store.rows()))
        mine = self.annotators.index(annotator)
        rows = [row for row, share in enumerate(self._shares) if mine in share]
        items = [self._item(row, answers.get(self.batch.images[row].digest, ()), annotator) for row in rows]
        return {
            "run": self.run,
            "project": self.project.name,
            "batch": self.batch.folder.name,
            "kind": self.batch.request.kind,
            "next": NEXT[self.batch.request.kind],
            "annotator": annotator,
            "annotators": len(self.annotators),
            "classes": list(self.project.classes),
            "newClasses": self._allows_new_classes or not self.project.classes,
            "skipReasons": list(SKIP_REASONS),
            "items": items,
            "total": len(self.batch.images),
            "answered": len(answers),
        }

    def answer(self, annotator: str, answers: Any) -> dict[str, Any]:
        """Write answers to the disk. Raises ConfigError for one that cannot be; then none is written."""
        if not isinstance(answers, list) or not 0 < len(answers) <= MOST_AT_ONCE:
            raise ConfigError(f"give a list of 1 to {MOST_AT_ONCE} answers")
        with self._writing:
            time = now()
            rows = [self._row(annotator, each, time) for each in answers]
            if len({row.digest for row in rows}) < len(rows):
                raise ConfigError("an image is answered twice at once; answer it once")
            known = self.project.classes
            new = [row.label for row in rows if row.status == "labeled" and row.label not in known]
            self._add_classes(new)
            self._store.append(rows)
            return {"classes": list(self.project.classes) if new else None}

    def undo(self, annotator: str) -> dict[str, Any]:
        """Take back what the annotator answered last in this batch; the rows of the batch that are open again."""
        batch = self.batch.request.batch
        with self._writing:
            undone = self._store.undo(lambda rows: last_answer(rows, batch=batch, annotator=annotator), time=now())
        places = {image.digest: row for row, image in enumerate(self.batch.images)}
        return {"rows": sorted(places[row.digest] for row in undone if row.digest in places)}

    def _item(self, row: int, given: Sequence[LabelRow], annotator: str) -> dict[str, Any]:
        image = self.batch.images[row]
        own = [each for each in given if each.annotator == annotator]
        counted = own or ([] if len(self._shares[row]) > 1 else list(given))
        has_match = self._shows_guesses and self.images.has_match(row)
        return {
            "row": row,
            "name": image.path,
            "guess": image.guess if self._shows_guesses else "",
            "probability": image.guess_probability if self._shows_guesses else None,
            "match": self.images.match_label(row) if has_match else None,
            "answer": _shown(counted[-1]) if counted else None,
        }

    def _row(self, annotator: str, given: Any, time: str) -> LabelRow:
        if not isinstance(given, Mapping):
            raise ConfigError(f"answer {shortened(given)}: give a row, a status and a label")
        row, status = given.get("row"), given.get("status")
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(self.batch.images):
            raise ConfigError(f"row {shortened(row)}: give a number from 0 to {len(self.batch.images) - 1}")
        if status not in GIVEN:
            raise ConfigError(f"status {shortened(status)}: give {', '.join(GIVEN)}")
        label, reason = given.get("label", ""), given.get("reason", "")
        if not isinstance(label, str) or not isinstance(reason, str) or len(reason) > LONGEST_REASON:
            raise ConfigError(f"label and reason are texts, the reason of at most {LONGEST_REASON} characters")
        if status == "labeled":
            self._check_class(label)
        if status == "skipped" and not reason.strip():
            raise ConfigError("a skipped image needs a reason")
        image = self.batch.images[row]
        return LabelRow(
            image.path,
            image.digest,
            label if status == "labeled" else "",
            status,
            reason.strip() if status == "skipped" else "",
            round=str(self.batch.request.round),
            batch=self.batch.request.batch,
            source=PAGE,
            annotator=annotator,
            seconds=_seconds(given.get("seconds")),
            time=time,
        )

    def _check_class(self, label: str) -> None:
        known = self.project.classes
        if label in known:
            return
        if problem := new_class_problem(label):
            raise ConfigError(f"class {shortened(label)}: {problem}")
        if known and not self._allows_new_classes:
            hint = did_you_mean(label, known)
            raise ConfigError(f"class {shortened(label)} is not in classes.txt; {hint}start with --allow-new-class")

    def _add_classes(self, names: Sequence[str]) -> None:
        """Commands change classes.txt under the project's lock; one that trains meanwhile has it for long."""
        if names:
            with self.project.lock(_refuse_to_wait):
                self.project.add_classes(names)


def shares(images: int, annotators: int, overlap: int) -> list[tuple[int, ...]]:
    """Who sees each image: everyone `overlap` images spread over the ranks, one annotator in turn each of the others.

    Example:
        >>> shares(6, 2, 2)
        [(0, 1), (0,), (1,), (0, 1), (0,), (1,)]
    """
    everyone = tuple(range(annotators))
    shared = {k * images // min(overlap, images) for k in range(min(overlap, images))}
    rest = [row for row in range(images) if row not in shared]
    turn = {row: (place % annotators,) for place, row in enumerate(rest)}
    return [everyone if row in shared else turn[row] for row in range(images)]


def _shown(row: LabelRow) -> dict[str, Any]:
    return {"status": row.status, "label": row.label, "reason": row.reason, "seconds": row.seconds}


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"seconds {shortened(value)}: give a number")
    return round(min(float(value), MOST_SECONDS), 2)


def _refuse_to_wait(message: str) -> None:
    raise ConfigError(f"a new class has to wait: {message}")
