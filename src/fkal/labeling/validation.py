"""The validation set of a project: a labeled random sample of its pool, and images that join it later."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fkal.data.addresses import is_url
from fkal.data.errors import MissingData, printable
from fkal.data.tree_files import EXTENSIONS
from fkal.errors import ConfigError, shortened
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch, BatchImage, BatchRequest, Kind, all_batches, next_folder, open_batches
from fkal.labeling.books import Books
from fkal.labeling.checking import checked_listing, held_out
from fkal.labeling.given_labels import digest_of
from fkal.labeling.label_store import live_rows, now
from fkal.labeling.listing import ListedImage, Listing, write_listing
from fkal.labeling.manifest import Entry
from fkal.labeling.params_text import restored_on_failure, with_place
from fkal.labeling.places import Looker, portable, scan_sources
from fkal.labeling.project import Project, base_of, class_problem, refuse_new_classes
from fkal.labeling.scan import PartSummary
from fkal.labeling.sources import Source, grouped, source_at
from fkal.notify import Display
from fkal.paths import at_home

WITHDRAW: Mapping[Kind, str] = {
    "select": "fkal select --cancel",
    "audit": "fkal audit --cancel",
    "relabel": "fkal relabel --cancel",
    "validation": "fkal val start --cancel",
}
"""The command that withdraws an open batch of each kind."""

FIRST_ROUND = 0
"""Validation batches are labeled before the first round, or beside it."""


class Start(NamedTuple):
    """A batch of images that become the validation set, and whether it was there."""

    batch: Batch
    was_there: bool


def start_validation(project: Project, n: int, display: Display, *, seed: int, workers: int) -> Start:
    """Asks for labels of a random sample of the pool. Hold the lock. An open one is returned as it is.

    With groups, each image is of another group while there are any. Raises ConfigError where a batch of another kind
    or size is open, or the pool has too few images.
    """
    rows = live_rows(label_rows(project))
    waiting = open_batches(project.rounds_path, rows)
    for batch in waiting:
        if batch.request.kind == "validation" and len(batch.images) == n:
            return Start(batch, True)
        raise ConfigError(
            f"batch {batch.name} ({batch.request.kind}, {len(batch.images)} images) is open in {batch.folder}; label "
            f"it first (fkal label), or withdraw it ({WITHDRAW[batch.request.kind]})"
        )
    asked = {image.digest for batch in all_batches(project.rounds_path) for image in batch.images}
    pool, open_rows = _open_pool(project, display, workers=workers)
    free = [row for row in open_rows if pool.digests[row] not in asked]
    if not 1 <= n <= len(free):
        way_out = "give 1 to that many" if free else "add some: fkal pool add PATH"
        raise ConfigError(f"-n {n}: the pool has {len(free):,} images that nobody was asked about; {way_out}")
    folder = next_folder(project.rounds_path, FIRST_ROUND)
    chosen = _sample(pool, free, n, f"{seed}/validation/{folder.name}")
    request = BatchRequest(
        kind="validation",
        round=FIRST_ROUND,
        batch=f"r{folder.name}",
        method="random",
        seed=seed,
        pool_digest=pool.digest,
        validation_digest=project.validation.digest,
        time=now(),
    )
    from fkal.labeling.contact_sheet import write_batch  # it decodes images, so it imports torch

    return Start(write_batch(project, folder, request, _asked(pool, chosen)), False)


def withdraw_validation(project: Project) -> Batch:
    """Withdraws the open validation batch. Hold the lock. Raises ConfigError where none is open."""
    rows = live_rows(label_rows(project))
    waiting = [each for each in open_batches(project.rounds_path, rows) if each.request.kind == "validation"]
    if not waiting:
        raise ConfigError("--cancel: no validation batch is open; `fkal status` lists the batches")
    return waiting[-1].withdraw()


def with_validation(project: Project) -> Project:
    """The project as its files are now, its labeled validation batches in the validation set. Hold the lock."""
    adopt_validation(Project.open(project.folder))
    return Project.open(project.folder)


def adopt_validation(project: Project) -> int:
    """Makes the labeled images of validation batches part of validation.parquet; returns how many are new.

    Hold the lock. Batches that are not labeled whole wait. A label that was corrected or taken back since then is
    corrected or taken back in the list, also where that opened its batch again.

    Raises ConfigError for a class that classes.txt does not name.
    """
    books = Books.of(project)
    batches = [batch for batch in books.batches if batch.request.kind == "validation"]
    names = {batch.name for batch in batches}
    done = [batch for batch in batches if batch.state(books.live) == "done"]
    if not done and not any(image.batch in names for image in project.validation):
        return 0
    labels = books.labels()
    kept = [
        _relabeled(image, labels) for image in project.validation if image.batch not in names or image.digest in labels
    ]
    there = {image.digest for image in kept}
    new = {
        image.digest: (labels[image.digest], batch.name)
        for batch in done
        for image in batch.images
        if image.digest in labels and image.digest not in there
    }
    added = list(_from_pool(project, new))
    if [*kept, *added] != list(project.validation):
        grouped_by = project.validation.grouped_by if len(project.validation) else project.pool.grouped_by
        write_listing(project.listing_path("validation"), [*kept, *added], labeled=True, grouped_by=grouped_by)
    return len(added)


def add_validation(
    project: Project, files: Sequence[str], display: Display, *, label: str | None, drop_leaks: bool, workers: int
) -> PartSummary:
    """Labeled images join the validation set: a folder per class, manifests, or image files with one `label`.

    Hold the lock. Images of the pool may join; they are no longer asked for or trained on. `label` also corrects that
    of images that are listed from a folder or a file. The same call again adds what is new, or nothing.
    """
    known = project.classes  # a file that cannot be read is refused before anything changes
    single = [name for name in files if _is_image(name)]
    _refuse_unfit_label(label, single, files)
    if label is not None and label not in known:
        refuse_new_classes([label], "--label")
    if label is not None:
        _correct(project, single, label, display)
    with restored_on_failure(project.params_path):
        sources = [_labeled_images(project, single, label)] if label is not None else []
        sources += [_labeled_place(project, name) for name in files if name not in single]
        by_root = _by_root(project, [source for group in sources for source in group])
        with Looker(project.facts_path, display, workers=workers, drop_leaks=drop_leaks) as looker:
            summary = scan_sources(Project.open(project.folder), "validation", by_root, looker)
    if new := sorted(set(summary.per_class).difference(known)):
        project.add_classes(new)
    return summary


def _correct(project: Project, files: Sequence[str], label: str, display: Display) -> None:
    """Gives listed validation images this label; those that a batch brought have theirs from labels.csv."""
    there = [at_home(name) for name in files if at_home(name).is_file()]
    rows = project.validation.positions([digest_of(path) for path in there])
    wrong = {row for row in rows if row is not None and project.validation.labels[row] != label}
    images = [
        replace(image, label=label) if row in wrong and image.batch is None else image
        for row, image in enumerate(project.validation)
    ]
    corrected = [old for old, new in zip(project.validation, images, strict=True) if old != new]
    if corrected:
        project.add_classes([label])
        write_listing(
            project.listing_path("validation"), images, labeled=True, grouped_by=project.validation.grouped_by
        )
    for old in corrected:
        display.notify(f"{printable(old.path)}: its label is {label} now, and was {old.label}")


def _is_image(name: str) -> bool:
    path = at_home(name)
    return path.suffix.lower() in EXTENSIONS and not path.is_dir()


def _refuse_unfit_label(label: str | None, single: Sequence[str], files: Sequence[str]) -> None:
    if label is None and single:
        raise ConfigError(f"{single[0]}: an image file needs its class; give --label CLASS, or a manifest with labels")
    if label is None:
        return
    if len(single) < len(files):
        raise ConfigError(
            f"--label {shortened(label)}: folders and manifests name the classes themselves; leave it out"
        )
    if problem := class_problem(label):
        raise ConfigError(f"--label {shortened(label)}: {problem}")


class _Placed(NamedTuple):
    """A source, and how the params file names its place."""

    name: str
    source: Source


def _labeled_images(project: Project, files: Sequence[str], label: str) -> list[_Placed]:
    """Image files of one class, by the place of the pool that they are in, or else by their folder."""
    by_place: dict[str, list[str]] = {}
    for name in files:
        path = Path(os.path.abspath(at_home(name)))  # noqa: PTH100  links in it stay as they are named
        if not path.exists():
            raise MissingData(f"{printable(name)}: there is no such file; give an image, a folder or a manifest")
        by_place.setdefault(_place_of(project, path), []).append(str(path))
    return [_part_of_place(project, place, [(path, label) for path in paths]) for place, paths in by_place.items()]


def _place_of(project: Project, path: Path) -> str:
    """The folder of the pool that holds the file, or its own folder."""
    for place in (*project.settings.pools, *project.settings.validation):
        folder = Path(os.path.abspath(base_of(project.folder, place)))  # noqa: PTH100
        if path.is_relative_to(folder):
            return place
    return portable(project.folder, str(path.parent))


def _part_of_place(project: Project, place: str, labeled: Sequence[tuple[str, str]]) -> _Placed:
    base = base_of(project.folder, place)
    root = os.path.abspath(base)  # noqa: PTH100
    entries = [Entry(os.path.relpath(path, root), label) for path, label in labeled]
    return _Placed(place, grouped(Source(place, base, lambda: iter(entries), is_whole=False), project.groups))


def _labeled_place(project: Project, name: str) -> list[_Placed]:
    """A folder per class, or a manifest; images that a manifest names as the pool does are those of the pool."""
    source = source_at(name, labeled=True, groups=project.groups)
    own = _Placed(portable(project.folder, name), source)
    if not at_home(name).is_file():
        return [own]
    entries = list(source.entries())
    listed = project.pool.listed_paths([entry.path for entry in entries])
    candidates = [entry for entry in entries if entry.path in listed and not is_url(entry.path)]
    paths = [entry.path for entry in candidates if not Path(source.address(entry)).exists()]
    if several := project.pool.repeated_paths(paths):
        raise ConfigError(
            f"{printable(name)}: {shortened(min(several))}: images of several places of the pool have this path; "
            "give the whole path of the file"
        )
    rows = project.pool.positions_of_paths([entry.path for entry in entries])
    there = set(paths)
    is_pools = [row is not None and entry.path in there for entry, row in zip(entries, rows, strict=True)]
    if not any(is_pools):
        return [own]
    by_place: dict[str, list[tuple[str, str]]] = {}
    kept = []
    for entry, row, is_pool in zip(entries, rows, is_pools, strict=True):
        if is_pool and row is not None and entry.label is not None and entry.problem is None:
            image = project.pool[row]
            place = project.settings.pools[image.root]
            by_place.setdefault(place, []).append((project.location("pool", image), entry.label))
        else:
            kept.append(entry)
    placed = [_part_of_place(project, place, labeled) for place, labeled in by_place.items()]
    return [*placed, own._replace(source=replace(source, entries=lambda: iter(kept)))] if kept else placed


def _by_root(project: Project, placed: Sequence[_Placed]) -> dict[int, Source]:
    """The sources by the number that counts their place; places that are new get into the params file."""
    found: dict[int, Source] = {}
    for each in placed:
        root = with_place(project.params_path, "validation", each.name)
        if root in found:
            raise ConfigError(f"{printable(each.name)}: given twice; give each place once")
        found[root] = each.source
    return found


def _open_pool(project: Project, display: Display, *, workers: int) -> tuple[Listing, list[int]]:
    """The pool as it is now, and the rows that can be asked for."""
    with Looker(project.facts_path, display, workers=workers) as looker:
        pool, usable = checked_listing(
            project, "pool", looker.facts, workers=workers, shown=looker.shown, say=display.notify
        )
    held = held_out(pool, project.validation, project.test)
    return pool, [row for row, flag in enumerate(usable) if flag and not held[row]]


def _sample(pool: Listing, rows: Sequence[int], n: int, key: str) -> list[int]:
    """A random sample that depends on the images and not on their order: one per group until groups run out."""
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{key}/{pool.digests[row]}".encode()).digest())
    seen: set[str] = set()
    first: list[int] = []
    later: list[int] = []
    for row in order:
        group = pool.groups[row]
        (later if group is not None and group in seen else first).append(row)
        seen |= {group} if group is not None else set()
    return [*first, *later][:n]


def _asked(pool: Listing, rows: Sequence[int]) -> Iterator[BatchImage]:
    for rank, row in enumerate(rows):
        image = pool[row]
        yield BatchImage(image.path, image.digest or "", rank, duplicates=image.duplicates)


def _relabeled(image: ListedImage, labels: Mapping[str, str]) -> ListedImage:
    """With the label as it is now, where a batch brought the image."""
    found = labels.get(image.digest or "")
    return image if found is None or image.batch is None else replace(image, label=found)


def _from_pool(project: Project, wanted: Mapping[str, tuple[str, str]]) -> Iterator[ListedImage]:
    """The rows of the pool that were labeled for validation, as rows of the validation list."""
    rows = project.pool.positions(list(wanted))
    for (label, batch), row in zip(wanted.values(), rows, strict=True):
        if row is not None:
            image = project.pool[row]
            root = with_place(project.params_path, "validation", project.settings.pools[image.root])
            yield replace(image, root=root, label=label, batch=batch)
