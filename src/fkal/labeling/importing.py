"""Labels from elsewhere into labels.csv: all of them, or none and a line per problem. Imports no torch."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from fkal.data.addresses import is_url
from fkal.errors import MOST_NAMES, ConfigError, LabelsMissing, did_you_mean, listed, shortened
from fkal.labeling.answers import label_store
from fkal.labeling.batch import TO_LABEL, Batch, BatchImage, all_batches
from fkal.labeling.given_labels import NONE_OF_THESE, GivenLabel, read_given_labels
from fkal.labeling.label_store import PAGE, LabelRow, live_rows, now
from fkal.labeling.listing import Listing
from fkal.labeling.project import Project, new_class_problem
from fkal.notify import Notify


@dataclass(frozen=True)
class ImportRules:
    """What an import accepts beyond one answer for each image that was asked for.

    `annotator` is written where a file names none.
    """

    allow_new_class: bool = False
    accept_extra: bool = False
    partial: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class Imported:
    """What an import brought: the rows that were written, those that were there already, what is still missing."""

    rows: tuple[LabelRow, ...]
    known: int
    new_classes: tuple[str, ...] = ()
    missing: Mapping[str, int] = field(default_factory=dict)
    """By the folder of each batch whose images were named."""

    def count(self, status: str) -> int:
        return sum(row.status == status for row in self.rows)


@dataclass
class Problems:
    """Lines by kind, of which the first are shown."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, line: str) -> None:
        self.lines.setdefault(kind, []).append(line)

    def refuse(self) -> None:
        """Raises LabelsMissing if nothing but labels is missing, else ConfigError."""
        shown = []
        for kind, lines in self.lines.items():
            more = len(lines) - MOST_NAMES
            shown += [*lines[:MOST_NAMES], *([f"and {more} more of these: {kind}"] if more > 0 else [])]
        if set(self.lines) == {MISSING}:
            raise LabelsMissing("\n".join([*shown, "no label was imported; --partial imports those that are there"]))
        if shown:
            raise ConfigError("\n".join([*shown, "no label was imported"]))


MISSING = "missing"
Asked = tuple[Batch, BatchImage]


def import_labels(project: Project, files: Sequence[Path], rules: ImportRules, *, say: Notify) -> Imported:
    """Read the files and append their labels, all or none.

    Raises ConfigError with a line per problem, LabelsMissing if the one problem is that labels are missing.
    """
    batches = all_batches(project.rounds_path)
    given = [each for file in files for each in _of_its_check(file, read_given_labels(file), batches)]
    return import_given(project, given, rules, source=f"import {', '.join(file.name for file in files)}", say=say)


def import_given(
    project: Project, given: Sequence[GivenLabel], rules: ImportRules, *, source: str, say: Notify
) -> Imported:
    """Append labels that were read already."""
    with project.lock(say):
        store, problems = label_store(project), Problems()
        before = store.rows()
        existing = live_rows(before)
        batches = [batch for batch in all_batches(project.rounds_path) if not batch.request.withdrawn]
        given = _without_unknown_checks(given, batches, say)
        digests = _digests(project, given, problems)
        asked = _asked(batches, existing, given, digests)
        checked = _Checked.of(before, batches)
        found = _rows(given, digests, asked, rules, project.classes, problems, checked)
        new_classes = _new_classes(found, project.classes, rules, problems)
        counted = [*existing, *(row for _, row in found)]
        answered = {row.batch for _, row in found} | {place[0].request.batch for place in asked if place is not None}
        touched = [batch for batch in batches if batch.request.batch in answered]
        missing = {batch.folder.name: batch.missing(counted) for batch in touched}
        if not rules.partial:
            for name, images in missing.items():
                for image in images:
                    problems.add(MISSING, f"{image.path}: has no label, and batch {name} asks for one")
        problems.refuse()
        corrected = _corrected_on_the_page(before)
        known = {_content(row) for row in _last_in_batches(before)} | corrected
        repeated = [each for each, row in found if _content(row) in corrected]
        time = now()
        rows = tuple(_stamped(row, source, time) for _, row in found if _content(row) not in known)
        project.add_classes(new_classes)
        store.append(rows)
        for line in (*checked.left_out(), *_corrections_stay(repeated)):
            say(line)
        n_known = len(found) - len(rows) + checked.known
        return Imported(rows, n_known, new_classes, {name: len(images) for name, images in missing.items()})


@dataclass
class _Checked:
    """Images that a check (`fkal relabel`) has an answer for: a label that names no check says nothing of them.

    `folders` has that of the check by digest, `said` what was ever said of them, by annotator.
    """

    folders: Mapping[str, Path]
    said: Set[tuple[str, ...]]
    known: int = 0
    late: list[tuple[str, Path]] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[LabelRow], batches: Sequence[Batch]) -> "_Checked":
        checks = {batch.request.batch: batch.folder for batch in batches if batch.request.kind == "relabel"}
        live = live_rows(rows)
        folders = {row.digest: checks[row.batch] for row in live if row.batch in checks}
        return cls(folders, {_said(row) for row in live if row.digest in folders})

    def takes(self, each: GivenLabel, row: LabelRow, asked: Asked | None) -> bool:
        """Whether the label is left out here."""
        is_answer = each.check or (asked is not None and asked[0].request.kind == "relabel")
        if row.digest not in self.folders or is_answer:
            return False
        if _said(row) in self.said:
            self.known += 1
        else:
            self.late.append((each.path, self.folders[row.digest]))
        return True

    def left_out(self) -> Iterator[str]:
        if self.late:
            path, folder = self.late[0]
            many = f"{len(self.late)} labels of images" if self.late[1:] else "a label of an image"
            yield (
                f"{many} that a check has answered {'are' if self.late[1:] else 'is'} left out ({shortened(path)}); "
                f"correct it on the page, or in {folder / TO_LABEL} and import that"
            )


def _of_its_check(file: Path, given: Sequence[GivenLabel], batches: Sequence[Batch]) -> list[GivenLabel]:
    """Labels of the to_label.csv of a check are of that check."""
    place = file.resolve()
    for batch in batches:
        if batch.request.kind == "relabel" and place == (batch.folder / TO_LABEL).resolve():
            return [replace(each, check=batch.request.batch) for each in given]
    return list(given)


def _without_unknown_checks(given: Sequence[GivenLabel], batches: Sequence[Batch], say: Notify) -> list[GivenLabel]:
    """Without labels of checks (`fkal relabel`) that were withdrawn, or are not of this project; says which."""
    known = {batch.request.batch for batch in batches if batch.request.kind == "relabel"}
    unknown = {each.check: None for each in given if each.check and each.check not in known}
    if unknown:
        say(f"labels of checks that are not open or done here are left out: {listed([shortened(c) for c in unknown])}")
    return [each for each in given if each.check not in unknown]


def _asked(
    batches: Sequence[Batch], rows: Sequence[LabelRow], given: Sequence[GivenLabel], digests: Sequence[str | None]
) -> list[Asked | None]:
    """For each label the batch that asks for its image: an open one before one that is done, a later before an earlier.

    A check (`fkal relabel`) is answered by labels that name it. An open one is also answered by a file whose format
    names no check and that has images of it alone. Labels of before, which come in once more, are no second look.
    """
    images = {digest for digest in digests if digest is not None}
    names_none = all(each.check is None for each in given)
    checks = [batch for batch in batches if batch.request.kind == "relabel"]
    answered = [
        batch for batch in checks if batch.state(rows) == "open" and names_none and not _has_others(batch, images)
    ]
    others = [batch for batch in batches if batch.request.kind != "relabel"]
    last = [*sorted(others, key=lambda batch: batch.state(rows) == "open"), *answered]
    by_digest = {image.digest: (batch, image) for batch in last for image in batch.images}
    by_check = {(batch.request.batch, image.digest): (batch, image) for batch in checks for image in batch.images}
    return [
        None if digest is None else by_check.get((each.check or "", digest), by_digest.get(digest))
        for each, digest in zip(given, digests, strict=True)
    ]


def _last_in_batches(rows: Sequence[LabelRow]) -> Iterable[LabelRow]:
    """The last row of each image, annotator and batch."""
    return {(row.digest, row.annotator, row.batch): row for row in live_rows(rows)}.values()


def _corrected_on_the_page(rows: Sequence[LabelRow]) -> set[tuple[str, ...]]:
    """What came in last from elsewhere, where the same annotator has since said something else on the page."""
    last, elsewhere = {}, {}
    for row in live_rows(rows):
        key = row.digest, row.annotator, row.batch
        last[key] = row
        if row.source != PAGE:
            elsewhere[key] = row
    return {_content(row) for key, row in elsewhere.items() if last[key].source == PAGE} - {
        _content(row) for row in last.values()
    }


def _corrections_stay(repeated: Sequence[GivenLabel]) -> Iterator[str]:
    if repeated:
        many = f"{len(repeated)} labels say" if repeated[1:] else "a label says"
        yield (
            f"{many} what came in before and was corrected on the page since ({shortened(repeated[0].path)}): "
            "the correction stays; change it on the page"
        )


def _has_others(batch: Batch, given: Set[str]) -> bool:
    return not given <= {image.digest for image in batch.images}


def _digests(project: Project, given: Sequence[GivenLabel], problems: Problems) -> list[str | None]:
    """Of each label's image: by its digest, else by its path, else by the end of its whole path or by its name.

    Only what one image alone has names it: two places of a pool may have files of the same path.
    """
    pool = project.pool
    several = pool.repeated_paths([each.path for each in given])
    by_digest = pool.positions([each.digest for each in given])
    by_path = pool.positions_of_paths([each.path for each in given])
    names: dict[str, list[int]] | None = None
    found: list[str | None] = []
    for each, first, second in zip(given, by_digest, by_path, strict=True):
        position = first if first is not None else second
        if position is None:
            names = _names(pool) if names is None else names
            same = names.get(_name(each.path), [])
            if len(same) > 1:
                same = [row for row in same if _ends_with(project.location("pool", pool[row]), each.path)] or same
            position = same[0] if len(same) == 1 else None
            if position is None:
                told = _unknown(each, len(same), pool, is_path=each.path in several)
                problems.add("unknown file", f"{each.where}: {told}")
        found.append(None if position is None else pool.digests[position])
    return found


def _rows(
    given: Sequence[GivenLabel],
    digests: Sequence[str | None],
    asked: Sequence[Asked | None],
    rules: ImportRules,
    classes: Sequence[str],
    problems: Problems,
    checked: _Checked,
) -> list[tuple[GivenLabel, LabelRow]]:
    """What the labels mean for this project; those without an answer and with problems are left out."""
    found: dict[tuple[str, str, str], tuple[GivenLabel, LabelRow]] = {}
    for each, digest, place in zip(given, digests, asked, strict=True):
        if digest is None or not (each.label or each.status):
            continue
        row = _row(each, digest, place, rules.annotator, classes)
        if checked.takes(each, row, place):
            continue
        if place is None and not rules.accept_extra:
            problems.add(
                "not asked for",
                f"{each.where}: {each.path}: no batch asks for it; --accept-extra takes it all the same",
            )
            continue
        if row.status == "labeled" and not row.label:
            problems.add("no label", f"{each.where}: {each.path}: status labeled, and no label; fill it")
            continue
        before = found.setdefault((digest, row.annotator, row.batch), (each, row))
        if (before[1].status, before[1].label) != (row.status, row.label):
            problems.add(
                "labeled twice",
                f"{each.where}: {each.path}: {row.label or row.status}, but {before[0].where} says "
                f"{before[1].label or before[1].status}; leave one of them out",
            )
    return list(found.values())


def _row(each: GivenLabel, digest: str, asked: Asked | None, annotator: str, classes: Sequence[str]) -> LabelRow:
    is_none = each.label == NONE_OF_THESE and NONE_OF_THESE not in classes
    status = each.status or (NONE_OF_THESE if is_none else "labeled")
    batch, image = asked or (None, None)
    return LabelRow(
        image.path if image else each.path,
        digest,
        each.label if status == "labeled" else "",
        status,  # type: ignore[arg-type]  # one of STATUSES, as its reader made sure
        each.reason if status != "labeled" else "",
        round=str(batch.request.round) if batch else "",
        batch=batch.request.batch if batch else "",
        annotator=each.annotator or annotator,
        seconds=each.seconds,
    )


def _new_classes(
    found: Iterable[tuple[GivenLabel, LabelRow]], classes: Sequence[str], rules: ImportRules, problems: Problems
) -> tuple[str, ...]:
    """Names that classes.txt lacks, in order of appearance; a line for each where they are not allowed."""
    new: dict[str, list[GivenLabel]] = {}
    for each, row in found:
        if row.status == "labeled" and row.label not in classes:
            new.setdefault(row.label, []).append(each)
    for name, places in new.items():
        if problem := new_class_problem(name):
            problems.add("no name of a class", f"{places[0].where}: class {shortened(name)}: {problem}")
        elif not rules.allow_new_class:
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            problems.add(
                "unknown class",
                f"{places[0].where}{more}: class {shortened(name)} is not in classes.txt; {did_you_mean(name, classes)}"
                "correct it, or give --allow-new-class",
            )
    return tuple(new)


def _ends_with(location: str, path: str) -> bool:
    """Whether a path is a file's whole path, or its last parts: `cam2/01.png` of `/data/cam2/01.png`."""
    wanted = path.replace("\\", "/").removeprefix("./")
    whole = location if is_url(location) else os.path.normpath(location)
    return whole == wanted or whole.endswith(f"/{wanted.lstrip('/')}")


def _unknown(each: GivenLabel, same: int, pool: Listing, *, is_path: bool) -> str:
    shown = shortened(each.path or each.digest)
    if is_path:
        return f"{shown}: {same} images in several places have this path; put its folder in front, or give the digest"
    if same > 1:
        return f"{shown}: {same} images of the pool have this name; give the path of pool.parquet or the digest"
    if not len(pool):
        return f"{shown}: the pool is empty; add images: fkal pool add FOLDER"
    return f"{shown}: no image of the pool has this content, path or name; correct it, or leave the row out"


def _names(pool: Listing) -> dict[str, list[int]]:
    """Positions by the last part of their paths, also of collapsed duplicates; of a file by its content now."""
    names: dict[str, list[int]] = {}
    last = set(pool.last_rows)
    for position, image in enumerate(pool):
        if position not in last:
            continue
        for name in {_name(path) for path in (image.path, *image.duplicates)}:
            names.setdefault(name, []).append(position)
    return names


def _name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _content(row: LabelRow) -> tuple[str, ...]:
    """What makes two rows say the same; the same import twice brings nothing new."""
    return *_said(row), row.batch


def _said(row: LabelRow) -> tuple[str, ...]:
    return row.digest, row.annotator, row.status, row.label, row.reason


def _stamped(row: LabelRow, source: str, time: str) -> LabelRow:
    return replace(row, source=source, time=time)
