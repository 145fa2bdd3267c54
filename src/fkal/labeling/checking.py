"""Whether the listed files are still what they were: one that moved is found by its digest, else it is set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from fkal.data.addresses import is_url
from fkal.data.errors import Flaw, MissingData, printable
from fkal.data.groups import group_key
from fkal.data.settings import has_captures
from fkal.labeling.file_facts import FILES_AT_ONCE, UNREAD, Facts, FileFacts
from fkal.labeling.listing import ListedImage, Listing, read_listing, write_listing
from fkal.labeling.manifest import manifest_entries, metadata_of
from fkal.labeling.project import Part, Project
from fkal.labeling.quarantine import (
    CHANGED,
    CONTRADICTION,
    LEAK,
    UNLISTED,
    SetAside,
    read_quarantine,
    update_quarantine,
)
from fkal.labeling.sources import source_at
from fkal.notify import Notify, Shown
from fkal.paths import at_home

FROM_SCANS = frozenset({LEAK, CONTRADICTION, UNLISTED})
"""Flaws that only a scan finds."""
COPY = "copy"
"""The flaw of an image behind a URL that turned out to be a copy of one listed before it."""


def checked_listing(
    project: Project,
    part: Part,
    facts: FileFacts,
    *,
    workers: int,
    shown: Shown,
    say: Notify,
    every: bool = False,
) -> tuple[Listing, bytearray]:
    """The list of a part as it is now, and for each row whether its file can be used.

    Images behind URLs are read here for the first time. Moved files, groups by another rule than before and what was
    learned of URLs are written to the list, the others to quarantine.csv. A validation or test image that moved to the
    folder of another class gets that label, which is said. Raises MissingData where a whole place is not there.
    """
    listing = project.listing(part)
    _refuse_missing_places(project, part, listing)
    addresses = (project.location(part, image) for image in listing)
    facts.learn(addresses, len(listing), workers=workers, shown=shown, phase=f"checking {part}", every=every)
    learned, lost = _compared(project, part, listing, facts)
    moved = _found_again(project, part, listing, lost, facts, workers=workers, shown=shown)
    lost = {row: found for row, found in lost.items() if row not in moved}
    _refuse_lost_places(project, part, listing, lost)
    moved = {row: replace(image, group=learned.get(row, image).group) for row, image in moved.items()}
    for row, image in moved.items():
        if image.label != listing[row].label:
            was = listing[row].label
            say(f"{printable(image.path)}: its label is {image.label} now, and was {was}, as its folder says")
    changed, grouped_by = learned | moved, project.groups or ""
    if changed or (len(listing) and listing.grouped_by != grouped_by):
        path = project.listing_path(part)
        rows = (changed.get(row, image) for row, image in enumerate(listing))
        write_listing(path, rows, labeled=listing.is_labeled, grouped_by=grouped_by)
        listing = read_listing(path, labeled=listing.is_labeled)
    _set_aside(project, part, listing, lost)
    usable = bytearray(b"\x01") * len(listing)
    for row in lost:
        usable[row] = 0
    return listing, usable


def held_out(pool: Listing, validation: Listing, test: Listing) -> list[bool]:
    """Of each pool image, whether it or an image of its group is validated or tested on."""
    digests = {digest for digest in chain(validation.digests, test.digests) if digest is not None}
    groups = {group for group in chain(validation.groups, test.groups) if group is not None}
    rows = zip(pool.digests, pool.groups, strict=True)
    return [digest in digests or group in groups for digest, group in rows]


def _compared(
    project: Project, part: Part, listing: Listing, facts: FileFacts
) -> tuple[dict[int, ListedImage], dict[int, Facts]]:
    """Rows of which something new is known (a URL's digest, a group by another rule), and rows of lost files."""
    learned: dict[int, ListedImage] = {}
    group_of = _group_finder(project, part, listing)
    lost: dict[int, Facts] = {}
    digests: set[str] = set()
    rows = iter(enumerate(listing))
    while block := list(islice(rows, FILES_AT_ONCE)):
        known = facts.of([project.location(part, image) for _, image in block])
        for (row, image), found in zip(block, known, strict=True):
            group = group_of(image)
            if found.flaw is None and image.digest is None:
                learned[row] = replace(image, digest=found.digest, width=found.width, height=found.height, group=group)
            elif group != image.group:
                learned[row] = replace(image, group=group)
            if found.flaw is not None or image.digest not in (None, found.digest):
                lost[row] = found
            elif is_url(image.path) and found.digest in digests:
                lost[row] = found._replace(flaw=COPY, reason="it is a copy of an image that is listed before it")
            digests.add(found.digest or "")
    return learned, lost


def _group_finder(project: Project, part: Part, listing: Listing) -> Callable[[ListedImage], str | None]:
    """Gives the group of an image by today's `data.groups`, which may have changed since it was listed."""
    rule = project.groups
    if rule is not None and has_captures(rule):
        return lambda image: group_key(image.path, rule)
    if listing.grouped_by == (rule or ""):
        return lambda image: image.group
    by_root = {root: _group_finder_of_place(project, part, root, column=rule) for root in set(listing.roots)}
    return lambda image: by_root[image.root](image)


def _group_finder_of_place(
    project: Project, part: Part, root: int, *, column: str | None
) -> Callable[[ListedImage], str | None]:
    """A manifest says the groups; where it is gone the list has what it said. In a folder only an expression does."""
    place = project.folder / at_home(project.settings.sources(part)[root])
    manifest = place if place.is_file() else metadata_of(place)
    if manifest is not None:
        groups = {each.path: each.group for each in manifest_entries(manifest, labeled=False, group=column)}
        return lambda image: groups.get(image.path, image.group)
    return (lambda image: None) if place.is_dir() else (lambda image: image.group)


def _found_again(
    project: Project,
    part: Part,
    listing: Listing,
    lost: dict[int, Facts],
    facts: FileFacts,
    *,
    workers: int,
    shown: Shown,
) -> dict[int, ListedImage]:
    """Lost images whose bytes are in another file: a copy that was collapsed, or a new name in the same place."""
    wanted = {listing[row].digest: row for row, found in lost.items() if listing[row].digest and found.flaw != COPY}
    if not wanted:
        return {}
    moved: dict[int, ListedImage] = {}
    listed = set(listing.paths)
    for root in sorted({listing[row].root for row in wanted.values()}):
        rows = {digest: row for digest, row in wanted.items() if listing[row].root == root and row not in moved}
        copies = [path for row in rows.values() for path in listing[row].duplicates]
        names = list(dict.fromkeys([*copies, *_unlisted_names(project, part, root, listed)]))
        images = [ListedImage(name, root=root) for name in names]
        addresses = [project.location(part, image) for image in images]
        facts.learn(addresses, len(addresses), workers=workers, shown=shown, phase=f"looking for moved {part} files")
        for image, found in zip(images, facts.of(addresses), strict=True):
            row = rows.get(found.digest) if found.flaw is None else None
            if row is not None and row not in moved:
                before = listing[row]
                copies_left = tuple(path for path in before.duplicates if path != image.path)
                label = _label_there(project, before, image.path)
                moved[row] = replace(before, path=image.path, duplicates=copies_left, label=label)
    return moved


def _label_there(project: Project, before: ListedImage, path: str) -> str | None:
    """The class of a validation or test image that moved: that of its folder, where folders named the class before."""
    folder = path.partition("/")[0]
    is_by_folder = before.label is not None and before.batch is None and before.path.startswith(f"{before.label}/")
    return folder if is_by_folder and "/" in path and folder in project.classes else before.label


def _unlisted_names(project: Project, part: Part, root: int, listed: set[str]) -> Iterator[str]:
    """Files of a folder that the list does not name; a manifest names all its files itself."""
    place = project.folder / at_home(project.settings.sources(part)[root])
    if not place.is_dir():
        return iter(())
    try:
        entries = source_at(str(place), labeled=False).entries()
    except MissingData:  # it has no image left
        return iter(())
    return (entry.path for entry in entries if entry.problem is None and entry.path not in listed)


def _set_aside(project: Project, part: Part, listing: Listing, lost: Mapping[int, Facts]) -> None:
    """Puts the lost rows into quarantine.csv, and takes out what was lost and is back."""
    before = [row for row in read_quarantine(project.quarantine_path) if row.part == part]
    paths = listing.listed_paths([row.path for row in before])
    by_digest = listing.positions([row.digest for row in before])
    listed = {
        row.key
        for row, found in zip(before, by_digest, strict=True)
        if row.flaw not in FROM_SCANS and (found is not None or row.path in paths)
    }
    aside = [_row(part, listing[row], found) for row, found in lost.items()]
    update_quarantine(project.quarantine_path, aside, replaced=lambda row: row.key in listed)


def _row(part: Part, image: ListedImage, found: Facts) -> SetAside:
    changed = found.flaw is None
    reason = "its content changed since it was listed" if changed else found.reason
    flaw = CHANGED if changed else found.flaw or Flaw.UNREADABLE.value
    return SetAside(image.path, reason, flaw, part, image.root, image.digest or "")


def _refuse_missing_places(project: Project, part: Part, listing: Listing) -> None:
    """A disk that is not mounted must not set a whole pool aside."""
    for root, n in sorted(Counter(listing.roots).items()):
        base = project.source(part, root)
        if not is_url(base) and not Path(base).is_dir():
            raise MissingData(
                f"{printable(base)}: is not there, and {n:,} {part} images are listed in it; mount or restore it, or "
                f"correct its path in {project.params_path}"
            )


def _refuse_lost_places(project: Project, part: Part, listing: Listing, lost: Mapping[int, Facts]) -> None:
    """Nor must an empty mount point."""
    missing = Counter(listing.roots[row] for row, found in lost.items() if found.flaw in UNREAD)
    for root, n in sorted(Counter(listing.roots).items()):
        if n > 1 and missing[root] == n:
            raise MissingData(
                f"{printable(project.source(part, root))}: none of the {n:,} {part} images that are listed there is "
                f"left or may be read; mount or restore it, or correct its path in {project.params_path}"
            )
