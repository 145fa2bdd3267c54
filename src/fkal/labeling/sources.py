"""Where the images of a project come from: folder trees, a folder per class, manifests, folders with metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fkal.data.addresses import is_url, joined
from fkal.data.errors import IncompleteData, MissingData, printable
from fkal.data.groups import group_key
from fkal.data.settings import has_captures
from fkal.data.tree_files import EXTENSIONS, class_folders, images_below
from fkal.errors import ConfigError
from fkal.labeling.manifest import Entry, is_manifest, manifest_entries, metadata_of
from fkal.paths import at_home


@dataclass(frozen=True)
class Source:
    """The images of one place, listed each time that they are asked for; a manifest is never held whole.

    `base` is where the paths start. `left_out` counts files that are no images by their names, by kind. `stray` has
    names and reasons of entries that are no files: pipes, dead links, folders that cannot be listed.
    """

    place: str
    base: str
    entries: Callable[[], Iterator[Entry]]
    left_out: Counter[str] = field(default_factory=Counter)
    stray: tuple[tuple[str, str], ...] = ()
    is_whole: bool = True
    """Whether the entries are all that the place has."""

    def address(self, entry: Entry) -> str:
        return joined(self.base, entry.path)


def source_at(place: str, *, labeled: bool, groups: str | None = None) -> Source:
    """What is at a place: with `labeled`, each image has the name of its class.

    `groups` is the setting `data.groups`. Raises MissingData where nothing is, ConfigError for what is no source.
    """
    path = at_home(place)
    refuse_nowhere(place)
    column = groups if groups is not None and not has_captures(groups) else None
    if path.is_file():
        return grouped(_manifest(path, labeled=labeled, column=column), groups)
    try:
        metadata = metadata_of(path)
    except PermissionError as error:  # its own path is that of a file that need not be there
        raise PermissionError(error.errno, error.strerror, str(path)) from None
    if metadata is not None:
        return grouped(_manifest(metadata, labeled=labeled, column=column), groups)
    if column is not None:
        raise ConfigError(
            f"data.groups = {column!r}: names a manifest's column, and {printable(place)} is a folder; give a regular "
            "expression with captures, say ([^/]+)_[^/]*$"
        )
    return grouped(_class_folders(path) if labeled else _tree(path), groups)


def refuse_nowhere(place: str) -> None:
    """Raises MissingData for a place where nothing is, ConfigError for a URL, a pipe or a device."""
    if is_url(place):
        raise ConfigError(
            f"{place}: a place is a folder or a manifest on this machine; list the URLs in a file, say images.csv "
            "with a column path"
        )
    path = at_home(place)
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise ConfigError(f"{printable(place)}: is a pipe or a device; give a folder of images or a manifest")
    if not (path.is_dir() or path.is_file()):
        raise MissingData(f"{printable(place)}: there is no such folder or file; give a folder of images or a manifest")


def _manifest(path: Path, *, labeled: bool, column: str | None) -> Source:
    if not is_manifest(path):
        raise ConfigError(
            f"{printable(path)}: is neither a folder nor a manifest; give a folder of images, or a list of them as "
            ".csv, .jsonl or .parquet"
        )

    def entries() -> Iterator[Entry]:
        return manifest_entries(path, labeled=labeled, group=column)

    return Source(str(path), str(path.parent), entries)


def _tree(folder: Path) -> Source:
    left_out: Counter[str] = Counter()
    stray: list[tuple[str, str]] = []
    names = images_below(folder, left_out, stray, tolerant=True)
    if not names and not stray:
        found = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items() if n)
        raise IncompleteData(
            f"{printable(folder)}: no images{f' (left out: {found})' if found else ''}; "
            f"put images ({', '.join(EXTENSIONS)}) there, or give another folder"
        )
    relative = tuple((Path(name).relative_to(folder).as_posix(), reason) for name, reason in stray)
    return Source(str(folder), str(folder), lambda: map(Entry, names), left_out, relative)


def _class_folders(folder: Path) -> Source:
    left_out: Counter[str] = Counter()
    stray: list[tuple[str, str]] = []
    try:
        classes = class_folders(folder, left_out)
    except MissingData as error:
        raise IncompleteData(
            f"{error}; labeled images are a folder per class, {printable(folder)}/CLASS/*, or a manifest with the "
            "columns path and label"
        ) from error
    names = {name: images_below(folder / name, left_out, stray, tolerant=True) for name in classes}
    relative = tuple((Path(name).relative_to(folder).as_posix(), reason) for name, reason in stray)

    def entries() -> Iterator[Entry]:
        return (Entry(f"{name}/{file}", name) for name, files in names.items() for file in files)

    return Source(str(folder), str(folder), entries, left_out, relative)


def grouped(source: Source, groups: str | None) -> Source:
    """With the group of each image, where a regular expression finds it in the path."""
    if groups is None or not has_captures(groups):
        return source

    def entries() -> Iterator[Entry]:
        for entry in source.entries():
            yield entry._replace(group=group_key(entry.path, groups))

    return replace(source, entries=entries)
