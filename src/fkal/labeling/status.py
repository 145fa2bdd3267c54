"""Where a project is: what was spent, how good the model is and how sure that is, and whether to go on.

Everything is read from files; no model is run and torch is not imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from fkal.labeling.batch import Batch
from fkal.labeling.books import Books
from fkal.labeling.intervals import FEWEST_ROUNDS, Interval, paired_difference, paired_gain, power_law, proportion
from fkal.labeling.label_store import INIT, LabelRow, current_rows
from fkal.labeling.project import Project, ambiguous_classes
from fkal.labeling.trainings import Training, refuse_other_classes

SMALL_GAIN = 0.01
"""A round that surely gains less than one percentage point is not worth its labels."""
STOP_AFTER = 2
"""So many such rounds one after another are the sign to stop."""
RARE_SHARE = 0.5
"""A class is rare whose share is below this part of an equal share."""


class Point(NamedTuple):
    """One training: labels used, accuracy on validation images with its interval, and on the test set if any."""

    round: int
    labels: int
    validation: Interval
    test: Interval | None
    validation_images: int


class OpenBatch(NamedTuple):
    """A batch that waits for labels."""

    name: str
    kind: str
    folder: str
    images: int
    missing: int


class Agreement(NamedTuple):
    """How often two answers to the same image were the same."""

    same: int
    of: int


class Advice(NamedTuple):
    """`stop` or `go on`, by which rule, and why."""

    do: str
    rule: str
    why: str


@dataclass(frozen=True)
class Status:
    """All that `fkal status` says."""

    name: str
    folder: str
    pool: int
    validation: int
    labeled: int
    skipped: int
    none_of_these: int
    seconds: float
    """Spent on labels, where their source says so."""
    batches: tuple[OpenBatch, ...]
    curve: tuple[Point, ...]
    on_validation: bool
    """Whether the last training was on the validation images too. Its accuracy is then that of cross-fitting."""
    balanced: float | None
    """Balanced accuracy of the last training on the validation images."""
    validation_alone: float | None
    """The same of a head on the validation images alone, cross-validated; None where the model is not frozen."""
    gain: Interval | None
    """Of the last round, on the validation images that both rounds saw; None where the set has changed between them."""
    audit: Interval | None
    """Accuracy on the images that were not labeled when the last audit was drawn; None while people disagree on one."""
    audit_round: int | None
    conflicts: int
    """Images on which annotators disagree and `labels.resolve` does not decide."""
    pool_mix: Mapping[str, float]
    """Estimated shares of classes among open images; empty where no training estimated them."""
    validation_mix: Mapping[str, float]
    labeled_counts: Mapping[str, int]
    rare: Mapping[str, int]
    """Rare classes, and how many images of them are labeled."""
    without_validation: tuple[str, ...]
    ambiguous: tuple[str, ...]
    """Classes of an earlier version that are called as statuses of labels are."""
    with_guesses: Agreement
    between_people: Agreement
    next_labels: int
    forecast: Interval | None
    """The gain that so many further labels are likely to bring; None: unknown."""
    dedup: Mapping[str, float] | None
    """A similarity for `--dedup`, and the share of open images that it would leave out."""
    advice: Advice

    @property
    def tree(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        points = [{**each._asdict(), **_plain(each, "validation", "test")} for each in self.curve]
        pairs = ("gain", "audit", "with_guesses", "between_people", "forecast", "advice")
        batches = [each._asdict() for each in self.batches]
        return {**asdict(self), **_plain(self, *pairs), "curve": points, "batches": batches}


def _plain(record: object, *names: str) -> dict[str, Any]:
    values = {name: getattr(record, name) for name in names}
    return {name: None if value is None else value._asdict() for name, value in values.items()}


def status(project: Project) -> Status:
    """What the files of a project say. Raises ConfigError for files that cannot be read."""
    books = Books.of(project)
    answers = books.answers
    if books.last is not None:
        refuse_other_classes(books.last, project.classes)
    last, validation = books.last, Counter(name for name in project.validation.labels if name is not None)
    curve = tuple(map(_point, books.trainings))
    gains = _gains(books.trainings)
    kept_out = set(project.validation.digests)
    of_pool = [row for digest, row in answers.rows.items() if row.status == "labeled" and digest not in kept_out]
    asked = books.selected_in(books.b + 1) or books.selected_in(books.b)
    next_labels = len(asked[-1].images) if asked else project.config().acquisition.budget
    facts = {} if last is None else last.facts
    counts = dict(Counter(row.label for row in of_pool))
    mix = facts.get("mix", {})
    audited, audit_round = _audit(books)
    return Status(
        name=project.name,
        folder=str(project.folder),
        pool=len(project.pool),
        validation=len(project.validation),
        labeled=len(of_pool),
        skipped=len(books.with_status("skipped")),
        none_of_these=len(books.with_status("none_of_these")),
        seconds=sum(row.seconds or 0.0 for row in books.rows if row.status != "undone"),
        batches=tuple(_open_batch(batch, books) for batch in books.batches if batch.state(books.live) == "open"),
        curve=curve,
        on_validation=bool(facts.get("settings", {}).get("train.on_validation", False)),
        balanced=None if last is None else last.metrics.get("val/macro_accuracy"),
        validation_alone=facts.get("validation_alone"),
        gain=gains[-1] if gains else None,
        audit=audited,
        audit_round=audit_round,
        conflicts=len(answers.conflicts),
        pool_mix=mix,
        validation_mix=_shares(validation),
        labeled_counts=counts,
        rare=_rare(project.classes, mix, counts),
        without_validation=tuple(name for name in project.classes if not validation[name]),
        ambiguous=ambiguous_classes(project.classes),
        with_guesses=_with_guesses(books),
        between_people=_between_people(current_rows(books.rows)),
        next_labels=next_labels,
        forecast=_forecast(books.trainings, next_labels),
        dedup=facts.get("dedup"),
        advice=advice(gains, images=curve[-1].validation_images if curve else 0),
    )


def advice(gains: Sequence[Interval | None], images: int = 0) -> Advice:
    """Stop once two rounds one after another surely gained less than one percentage point of validation accuracy.

    So many validation `images` may be too few to show that; 0: unknown.
    """
    rule = f"{STOP_AFTER} rounds in a row gain surely less than {100 * SMALL_GAIN:.0f} percentage point"
    last = [gain for gain in gains[-STOP_AFTER:] if gain is not None]
    if len(last) < STOP_AFTER:
        return Advice("go on", rule, f"{len(last)} of the last gains are known, and the rule needs {STOP_AFTER}")
    why = f"the upper ends of the last gains are {' and '.join(f'{100 * gain.high:+.1f}' for gain in last)} points"
    if all(gain.high < SMALL_GAIN for gain in last):
        return Advice("stop", rule, why)
    if images and paired_difference(0, 0, images).high >= SMALL_GAIN:
        why += f"; {images} validation images are too few to show so small a gain"
    return Advice("go on", rule, why)


def _point(training: Training) -> Point:
    right = training.facts.get("validation_right", "")
    validation = proportion(right.count("1"), len(right))
    accuracy, n = training.metrics.get("test/accuracy"), training.facts.get("test_images", 0)
    measured = None if accuracy is None or not n else proportion(round(accuracy * n), n)
    return Point(training.b, training.labels_used, validation, measured, len(right))


def _gains(trainings: Sequence[Training]) -> list[Interval | None]:
    """Of each round over the one before; None where they were measured on other validation images."""
    found: list[Interval | None] = []
    for before, after in pairwise(trainings):
        rights = [[flag == "1" for flag in each.facts["validation_right"]] for each in (before, after)]
        is_same = before.facts.get("validation_digest") == after.facts.get("validation_digest")
        found.append(paired_gain(*rights) if is_same and len(rights[0]) == len(rights[1]) else None)
    return found


def _forecast(trainings: Sequence[Training], further: int) -> Interval | None:
    """By the trainings on the present validation images; one per number of labels, the last."""
    if not trainings:
        return None
    digest = trainings[-1].facts.get("validation_digest")
    errors = {
        each.labels_used: 1 - each.metrics["val/accuracy"]
        for each in trainings
        if each.facts.get("validation_digest") == digest
    }
    if len(errors) < FEWEST_ROUNDS:
        return None
    labels = sorted(errors)
    return power_law(labels, [errors[n] for n in labels], further)


def _audit(books: Books) -> tuple[Interval | None, int | None]:
    """Of the last audit whose images all have an answer: what the model then took them for beside what they are.

    Images of no class count as wrong; skipped ones are left out. There is none while people disagree on an image of it:
    without these images it would be of the easy ones.
    """
    done = [batch for batch in books.batches if batch.request.kind == "audit" and batch.state(books.live) == "done"]
    if not done:
        return None, None
    guesses: Mapping[str, str] = done[-1].request.facts.get("guesses", {})
    if any(conflict.digest in guesses for conflict in books.answers.conflicts):
        return None, None
    rows = [books.answers.rows[digest] for digest in guesses if digest in books.answers.rows]
    counted = [row for row in rows if row.status != "skipped"]
    if not counted:
        return None, None
    right = sum(row.status == "labeled" and row.label == guesses[row.digest] for row in counted)
    return proportion(right, len(counted)), done[-1].request.round


def _open_batch(batch: Batch, books: Books) -> OpenBatch:
    missing = len(batch.missing(books.live))
    return OpenBatch(batch.name, batch.request.kind, str(batch.folder), len(batch.images), missing)


def _with_guesses(books: Books) -> Agreement:
    """Answers beside the guesses that people saw."""
    guesses = {
        image.digest: image.guess
        for batch in books.batches
        if batch.request.kind == "select"
        for image in batch.images
        if image.guess
    }
    labels = books.answers.labels
    both = [digest for digest in guesses if digest in labels]
    return Agreement(sum(guesses[digest] == labels[digest] for digest in both), len(both))


def _between_people(rows: Sequence[LabelRow]) -> Agreement:
    """Pairs of people who labeled the same image; labels that came with `fkal init` are nobody's."""
    by_image: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "labeled" and row.source != INIT:
            by_image.setdefault(row.digest, []).append(row.label)
    same = of = 0
    for given in by_image.values():
        pairs = [(a, b) for place, a in enumerate(given) for b in given[place + 1 :]]
        same, of = same + sum(a == b for a, b in pairs), of + len(pairs)
    return Agreement(same, of)


def _rare(classes: Sequence[str], mix: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, int]:
    """Classes whose estimated share of the pool is small, with their labels; without an estimate nothing is rare."""
    if not mix:
        return {}
    few = RARE_SHARE / len(classes)
    return {name: counts.get(name, 0) for name in classes if mix.get(name, 0.0) < few}


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: n / total for name, n in sorted(counts.items())} if total else {}
