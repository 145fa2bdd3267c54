"""Looks at the images of a project's places once, and lists those that can be used.

Files that cannot be used are set aside with the reason. Exact copies are collapsed into the first of them. Images that
are also validated or tested on are refused, or dropped. Rows that are listed already keep their index.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from fkal.data.addresses import is_url
from fkal.data.errors import printable
from fkal.errors import ConfigError, shortened
from fkal.labeling.file_facts import FILES_AT_ONCE, Facts, FileFacts
from fkal.labeling.listing import ListedImage, Listing, write_listing
from fkal.labeling.manifest import Entry
from fkal.labeling.project import Part, Project, class_problem, refuse_new_classes
from fkal.labeling.quarantine import CONTRADICTION, LEAK, UNLISTED, SetAside, update_quarantine
from fkal.labeling.sources import Source
from fkal.notify import Shown

SHOWN = 5
"""Names in a message."""
Key = bytes
"""16 bytes that are the same for the same content; of a URL that was not read, for the same address."""


class Leak(ConfigError):
    """Images are in two parts of a project that must have none in common."""


@dataclass
class PartSummary:
    """What was found in the places of one part."""

    part: Part
    found: int = 0
    listed: int = 0
    added: int = 0
    unread: int = 0
    """Images behind URLs, which are read when they are embedded."""
    duplicates: int = 0
    dropped: int = 0
    """Left out since the same image is in another part."""
    bytes: int = 0
    pixels: int = 0
    set_aside: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    changes: Counter[int] = field(default_factory=Counter)
    per_class: Counter[str] = field(default_factory=Counter)


@dataclass
class _Sorted:
    """What becomes of each entry: whether its row is new, whose copy it is, or why it is set aside.

    Rows are counted from those that are listed already.
    """

    before: Listing
    is_new: bytearray = field(default_factory=bytearray)
    rows: dict[Key, int] = field(default_factory=dict)
    roots: array[int] = field(default_factory=lambda: array("i"))
    copies: dict[int, list[str]] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    contradicted: dict[int, str] = field(default_factory=dict)
    aside: list[SetAside] = field(default_factory=list)
    leaks: list[SetAside] = field(default_factory=list)


def scan_part(
    project: Project,
    part: Part,
    sources: Mapping[int, Source],
    *,
    facts: FileFacts,
    others: Sequence[tuple[Part, Listing]],
    drop_leaks: bool,
    workers: int,
    shown: Shown,
) -> PartSummary:
    """Lists the images of some places of a part; `sources` has them by the `root` that counts them.

    `others` are the parts that must not hold the same images. Raises Leak, and ConfigError where no image is left.
    """
    summary = PartSummary(part)
    for root, source in sources.items():
        phase = f"reading {part}" if len(sources) == 1 else f"reading {part}, place {root + 1}"
        if n := sum(1 for _ in _on_this_machine(source)):
            facts.learn(_on_this_machine(source), n, workers=workers, shown=shown, phase=phase)
    found = _sorted(part, project.listing_so_far(part), sources, facts, others, summary)
    if found.leaks and not drop_leaks:
        raise Leak(_leaks_said(found.leaks))
    _refuse_without_images(found, sources, summary)
    refuse_new_classes(sorted(set(found.labels.values()).difference(project.classes)), f"{part}: class")
    summary.dropped = len(found.leaks)
    _write(project, part, found, sources, facts, summary)
    rows = [*found.aside, *found.leaks]
    summary.set_aside = Counter(row.flaw for row in rows)
    whole = {root for root, source in sources.items() if source.is_whole}
    update_quarantine(project.quarantine_path, rows, replaced=lambda row: row.part == part and row.root in whole)
    return summary


def _on_this_machine(source: Source) -> Iterator[str]:
    """Addresses of files; images behind URLs are read when they are embedded."""
    return (address for entry in source.entries() if not is_url(address := source.address(entry)))


def content_key(digest: str | None, address: str) -> Key:
    """Of one image."""
    if digest is not None:
        return bytes.fromhex(digest[:32])
    return hashlib.blake2b(address.encode(errors="surrogatepass"), digest_size=16).digest()


def _sorted(
    part: Part,
    before: Listing,
    sources: Mapping[int, Source],
    facts: FileFacts,
    others: Sequence[tuple[Part, Listing]],
    summary: PartSummary,
) -> _Sorted:
    found = _Sorted(before)
    for number, image in enumerate(before):
        for key in _keys(image.digest, image.root, image.path):
            found.rows.setdefault(key, number)
        found.roots.append(image.root)
        if image.label is not None:
            found.labels[number] = image.label
    taken = {
        key: (name, image.path)
        for name, listing in others
        for image in listing
        for key in _keys(image.digest, image.root, image.path)
    }
    for root, source in sources.items():
        summary.left_out += source.left_out
        found.aside += [SetAside(name, reason, UNLISTED, part, root) for name, reason in source.stray]
        for entry, known in with_facts(source, facts):
            summary.found += 1
            row = SetAside(entry.path, "", "", part, root, digest=(known and known.digest) or "")
            found.is_new.append(_sort(found, row, entry, known, taken, source, summary))
    return found


def _sort(
    found: _Sorted,
    row: SetAside,
    entry: Entry,
    known: Facts | None,
    taken: Mapping[Key, tuple[Part, str]],
    source: Source,
    summary: PartSummary,
) -> bool:
    """Whether the entry has a new row; of an image behind a URL nothing is known."""
    problem = entry.problem or (class_problem(entry.label) if entry.label is not None else None)
    if problem is not None:
        found.aside.append(replace(row, reason=problem, flaw=UNLISTED))
        return False
    if known is not None and known.flaw is not None:
        found.aside.append(replace(row, reason=known.reason, flaw=known.flaw))
        return False
    keys = _keys(row.digest or None, row.root, entry.path)
    _count(summary, known)
    first = next((found.rows[key] for key in keys if key in found.rows), None)
    if first is not None:
        _copy(found, first, row, entry, source, summary)
        return False
    other = next((taken[key] for key in keys if key in taken), None)
    if other is not None:
        part, path = other
        found.leaks.append(replace(row, reason=f"the same image is in {part}: {printable(path)}", flaw=LEAK))
        return False
    for key in keys:
        found.rows[key] = len(found.roots)
    if entry.label is not None:
        found.labels[len(found.roots)] = entry.label
    found.roots.append(row.root)
    return True


def _keys(digest: str | None, root: int, path: str) -> tuple[Key, ...]:
    """An image behind a URL is also known by its address, since its content may not be."""
    address = path if is_url(path) else f"{root}/{path}"
    if digest is None or not is_url(path):
        return (content_key(digest, address),)
    return content_key(digest, address), content_key(None, address)


def _copy(found: _Sorted, row: int, copy: SetAside, entry: Entry, source: Source, summary: PartSummary) -> None:
    """Of an image that is listed already, a copy with another label is set aside; the listed label stays.

    Images of the pool are listed without the labels that they came with: those of the copies count.
    """
    label = found.labels.get(row)
    if label is None and entry.label is not None:
        found.labels[row] = entry.label
    elif entry.label is not None and entry.label != label:
        reason = f"copies of the image have other labels: {label}, {entry.label}"
        if row < len(found.before):
            if copy.part != "pool":
                reason = (
                    f"the image is listed with the label {label}, not {entry.label}: move the file, or correct the "
                    "list: fkal val add FILE --label CLASS"
                )
            found.aside.append(replace(copy, reason=reason, flaw=CONTRADICTION))
            return
        found.contradicted[row] = reason
    is_same_place = found.roots[row] == copy.root
    if row < len(found.before) and is_same_place and found.before.paths[row] == entry.path:
        return
    summary.duplicates += 1
    found.copies.setdefault(row, []).append(entry.path if is_same_place else source.address(entry))


def _write(
    project: Project,
    part: Part,
    found: _Sorted,
    sources: Mapping[int, Source],
    facts: FileFacts,
    summary: PartSummary,
) -> None:
    """The rows that were there, then the new ones; an image whose copies contradict each other is set aside."""

    def images() -> Iterator[ListedImage]:
        for row, image in enumerate(found.before):
            copies = found.copies.get(row)
            yield image if copies is None else replace(image, duplicates=_merged(image.duplicates, copies))
        new = iter(range(len(found.before), len(found.roots)))
        flags = iter(found.is_new)
        for root, source in sources.items():
            for entry, known in with_facts(source, facts):
                if next(flags):
                    yield from _new_image(found, next(new), SetAside(entry.path, "", "", part, root), entry, known)

    def counted() -> Iterator[ListedImage]:
        for image in images():
            if image.label is not None:
                summary.per_class[image.label] += 1
            yield image

    is_labeled = part != "pool"
    grouped_by = found.before.grouped_by if len(found.before) else project.groups or ""  # a check regroups the others
    summary.listed = write_listing(project.listing_path(part), counted(), labeled=is_labeled, grouped_by=grouped_by)
    summary.added = summary.listed - len(found.before)


def _new_image(found: _Sorted, row: int, place: SetAside, entry: Entry, known: Facts | None) -> Iterator[ListedImage]:
    copies = found.copies.get(row, [])
    digest = None if known is None else known.digest
    if row in found.contradicted:
        reason = found.contradicted[row]
        found.aside += [
            replace(place, path=path, reason=reason, flaw=CONTRADICTION, digest=digest or "")
            for path in (entry.path, *copies)
        ]
        return
    yield ListedImage(
        path=entry.path,
        digest=digest,
        root=place.root,
        group=entry.group,
        width=None if known is None else known.width,
        height=None if known is None else known.height,
        duplicates=_merged((), copies),
        label=entry.label,
    )


def _merged(before: Sequence[str], copies: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*before, *copies]))


def _refuse_without_images(found: _Sorted, sources: Mapping[int, Source], summary: PartSummary) -> None:
    """Places of which nothing can be used are wrong paths rather than bad files."""
    strays = sum(len(source.stray) for source in sources.values())
    usable = summary.found - (len(found.aside) - strays) - len(found.leaks)
    if usable or (found.leaks and len(found.roots)):
        return
    places = ", ".join(printable(source.place) for source in sources.values())
    if not found.aside:
        nothing = "all of its images are in another part" if found.leaks else "it lists no image"
        raise ConfigError(f"{places}: {nothing}; name other images")
    first = found.aside[0]
    raise ConfigError(
        f"{places}: none of {len(found.aside):,} images can be used; the first is {shortened(first.path)}: "
        f"{first.reason}; paths in a manifest start from its folder"
    )


def _leaks_said(leaks: Sequence[SetAside]) -> str:
    lines = [f"{leak.part} {shortened(leak.path)}: {leak.reason}" for leak in leaks[:SHOWN]]
    more = [f"and {len(leaks) - SHOWN:,} more"] if len(leaks) > SHOWN else []
    way_out = "give --drop-leaks to leave them out, or remove one of the two"
    return "\n".join(
        [*lines, *more, f"{len(leaks):,} images are in two parts, so accuracy would be too high; {way_out}"]
    )


def _count(summary: PartSummary, known: Facts | None) -> None:
    if known is None:
        summary.unread += 1
        return
    summary.bytes += known.bytes
    summary.pixels += (known.width or 0) * (known.height or 0)
    summary.formats[known.format] += 1
    summary.changes[known.changes] += 1


def with_facts(source: Source, facts: FileFacts) -> Iterator[tuple[Entry, Facts | None]]:
    """The entries with what is known of them, a block at a time."""
    entries = source.entries()
    while block := list(islice(entries, FILES_AT_ONCE)):
        addresses = [source.address(entry) for entry in block]
        for entry, address, known in zip(block, addresses, facts.of(addresses), strict=True):
            is_unread = is_url(address) and known.digest is None
            yield entry, None if is_unread else known
