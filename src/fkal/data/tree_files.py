"""Which files of a tree PART/CLASS/FILE are images of a dataset, by names alone. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath

from fkal.data.errors import CorruptData, MissingData, printable
from fkal.data.regular_files import refuse_irregular

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif"),
)
LEFT_BY_PROGRAMS = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found"})
HIDDEN, LOOPS, OUTSIDE = "hidden or left by other programs", "links to folders that are read already", "outside classes"


def class_folders(part: Path, left_out: Counter[str]) -> list[str]:
    """Sorted; raises MissingData where there are none."""
    try:
        entries = _listed(part)
    except OSError as error:
        raise MissingData(f"{printable(part)}: {error.strerror}") from error
    kept = [entry for entry in entries if not is_left_by_programs(entry.name)]
    classes = [entry.name for entry in kept if _is_folder(entry)]
    left_out[HIDDEN] += len(entries) - len(kept)
    if not classes:
        images = sum(entry.name.lower().endswith(EXTENSIONS) for entry in kept)
        loose = f", but {images:,} image files beside where class folders belong" if images else ""
        raise MissingData(f"{printable(part)}: no class folders{loose}")
    left_out[OUTSIDE] += len(kept) - len(classes)
    return classes


def images_below(
    folder: Path, left_out: Counter[str], flawed: list[tuple[str, str]], *, tolerant: bool = False
) -> list[str]:
    """Relative to the folder, sorted by folder and name; folders themselves before links to them.

    With `tolerant`, folders that cannot be listed and names that are not UTF-8 are flawed as well.
    """
    found: list[tuple[str, str]] = []
    folders = [""]
    links: list[str] = []
    part = Path(os.path.abspath(folder)).parent.resolve()  # noqa: PTH100  of `.` the folder above, of a link its own
    read = {_identity(above) for above in (part, *part.parents, *folder.resolve().parents)}
    while folders or links:
        below = (folders or links).pop(0)
        if _identity(folder / below) in read:
            left_out[LOOPS] += 1
            continue
        read.add(_identity(folder / below))
        try:
            entries = _listed(folder / below)
        except CorruptData:
            if not tolerant:
                raise
            flawed.append((f"{folder}/{below}", "the folder cannot be listed"))
            continue
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if is_left_by_programs(entry.name):
                left_out[HIDDEN] += 1
            elif _is_folder(entry) and not entry.name.lower().endswith(EXTENSIONS):
                (links if entry.is_symlink() else folders).append(name)
            elif not entry.name.lower().endswith(EXTENSIONS):
                left_out[kind_of(entry.name)] += 1
            elif reason := _irregular(entry) or (_no_text(name) if tolerant else None):
                flawed.append((f"{folder}/{name}", reason))
            else:
                found.append((below, entry.name))
    return [f"{below}/{name}" if below else name for below, name in sorted(found)]


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Sorted by name; a folder that cannot be listed would otherwise lose its images in silence."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        raise CorruptData(f"{printable(folder)}: cannot be listed ({error.strerror}); make it readable") from error


def is_left_by_programs(name: str) -> bool:
    """Hidden files and folders, checkpoints of notebooks, twins that a Mac writes beside its files."""
    return name.startswith(".") or name.lower() in LEFT_BY_PROGRAMS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; where it has an image's name, `_irregular` reports it
        return False


def _irregular(entry: os.DirEntry[str]) -> str | None:
    """What is wrong with an entry that has an image's name but is no file; links are followed."""
    try:
        if not entry.is_file():
            refuse_irregular(entry.path)
    except FileNotFoundError:
        return "it is a link to nothing"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _no_text(name: str) -> str | None:
    """Why a list of names cannot hold this one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return None


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def kind_of(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return f"{printable(suffix)[:12]} files" if suffix else "files without an extension"
