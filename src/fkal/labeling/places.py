"""Places of images as a project's params file names them, and looking at what is there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fkal.labeling.file_facts import FileFacts
from fkal.labeling.label_store import INIT, LabelRow, now
from fkal.labeling.project import Part, Project
from fkal.labeling.scan import PartSummary, scan_part, with_facts
from fkal.labeling.sources import Source, source_at
from fkal.notify import Display
from fkal.paths import at_home

OTHERS: dict[Part, tuple[Part, ...]] = {"pool": ("validation", "test"), "validation": ("test",), "test": ()}
"""The parts that a new image of a part must not be in."""


class Looker:
    """Reads files and remembers what it found, while the `with` block lasts."""

    def __init__(self, path: Path, display: Display, *, workers: int, drop_leaks: bool = False) -> None:
        self.facts = FileFacts(path)
        self.shown = display.one("images")
        self.workers = workers
        self.drop_leaks = drop_leaks

    def __enter__(self) -> Self:
        self.facts.__enter__()
        self.shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shown.__exit__(kind, error, trace)
        self.facts.__exit__(kind, error, trace)


def portable(folder: Path, place: str) -> str:
    """How the params file names a place: from the project's folder if it is in it, else by its whole path."""
    path = Path(os.path.abspath(at_home(place)))  # noqa: PTH100  links in it stay as they are named
    root = Path(os.path.abspath(folder))  # noqa: PTH100
    return path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else str(path)


def scan_places(
    project: Project, part: Part, roots: Sequence[int], looker: Looker, *, labeled: Sequence[str] = ()
) -> PartSummary:
    """Lists the images of some places of a part; those of the pool that are `labeled` have a class in their place."""
    places = project.settings.sources(part)
    sources = {root: _source(project, places[root], part != "pool" or places[root] in labeled) for root in roots}
    return scan_sources(project, part, sources, looker)


def scan_sources(project: Project, part: Part, sources: Mapping[int, Source], looker: Looker) -> PartSummary:
    """Lists the images of these sources; the number of each counts the places of the part."""
    return scan_part(
        project,
        part,
        sources,
        facts=looker.facts,
        others=[(other, project.listing_so_far(other)) for other in OTHERS[part]],
        drop_leaks=looker.drop_leaks,
        workers=looker.workers,
        shown=looker.shown,
    )


def labels_of_places(project: Project, places: Sequence[str], facts: FileFacts) -> Iterator[LabelRow]:
    """The label of each pool image that these places name a class of; none of an image that is in two classes."""
    time = now()
    labels: dict[str, str] = {}
    contradicted: set[str] = set()
    for place in places:
        for digest, label in _labeled(_source(project, place, True), facts):
            if labels.setdefault(digest, label) != label:
                contradicted.add(digest)
    digests = [digest for digest in labels if digest not in contradicted]
    for digest, row in zip(digests, project.pool.positions(digests), strict=True):
        if row is not None:
            image = project.pool[row]
            yield LabelRow(image.path, image.digest or "", labels[digest], source=INIT, time=time)


def _source(project: Project, place: str, is_labeled: bool) -> Source:
    return source_at(str(project.folder / at_home(place)), labeled=is_labeled, groups=project.groups)


def _labeled(source: Source, facts: FileFacts) -> Iterator[tuple[str, str]]:
    """Digest and class of each file."""
    for entry, known in with_facts(source, facts):
        if known is not None and known.digest is not None and entry.label is not None:
            yield known.digest, entry.label
