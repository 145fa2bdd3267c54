"""Folders that fkal writes to and removes: always below their root, and removed only with files of its own.

Nothing else in the program removes a folder with its content.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fkal.atomic_files import TEMPORARY
from fkal.identifiers import UnsafeName

TEMPORARY_FILE = re.compile(rf"\.[^/]+\.\d+{re.escape(TEMPORARY)}")
"""What a killed process leaves of a file that it was writing."""
MARK = ".fkal-unfinished"
"""A file in a folder that fkal is filling."""


def below(root: Path, name: str) -> Path:
    """`root / name`, which is below `root` once symbolic links are resolved.

    `root` may be a link, since a user names it. A file may be one as well, as in a cache of links: it is
    replaced or removed, and not written through. Raises UnsafeName for anything else that leads out.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise UnsafeName(f"{name!r}: not the name of a file or folder below {root}; give one without .. and leading /")
    path = root / name
    place = path if path.is_dir() else path.parent
    try:
        there = place.resolve()
    except RuntimeError:  # Python 3.11 and 3.12 say so of a loop of links
        raise UnsafeName(f"{path}: its symbolic links lead in a circle; remove them") from None
    if not there.is_relative_to(root.resolve()):
        raise UnsafeName(f"{path}: a symbolic link leads out of {root}, to {there}; remove the link")
    return path


def in_place(root: Path, name: str) -> Path:
    """As `below`, of a file that is opened and written to as it is, so that it may be no link at all."""
    path = below(root, name)
    if path.is_symlink():
        raise UnsafeName(f"{path}: a symbolic link, to {path.readlink()}; remove the link")
    return path


def own_folder(root: Path, name: str, layout: str) -> Path:
    """`root / name`, which is not there or holds only files that fkal writes.

    `layout` is the pattern of their names, relative to the folder. Raises UnsafeName for a folder that is
    a link or holds anything else.
    """
    folder = below(root, name)
    if folder.is_symlink():
        raise UnsafeName(f"{folder}: a symbolic link, to {folder.readlink()}, where fkal has a folder; remove the link")
    if folder.exists() and not folder.is_dir():
        raise UnsafeName(f"{folder}: not a folder; move it away")
    foreign = next(_foreign(folder, layout), None)
    if foreign is not None:
        raise UnsafeName(f"{folder}: is not removed, since fkal did not write {foreign!r} in it; move that away")
    return folder


def remove_folder(root: Path, name: str, layout: str) -> None:
    """Remove `root / name`, if it is there. Raises UnsafeName as `own_folder` does, and then removes nothing."""
    folder = own_folder(root, name, layout)
    if folder.exists():
        shutil.rmtree(folder)


def unfinished_folder(place: Path) -> Path:
    """An empty folder beside `place`, to be filled and then given its name by `finish_folder`.

    What a killed process left of an earlier one is removed; it is known by a mark that fkal wrote in it. Raises
    UnsafeName where the folder holds something else.
    """
    folder = place.with_name(f".{place.name}.unfinished")
    if folder.is_symlink() or (folder.exists() and not (folder / MARK).is_file()):
        raise UnsafeName(f"{folder}: fkal did not make it, so it is not removed; move it away")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / MARK).touch()
    return folder


def finish_folder(folder: Path, place: Path) -> None:
    """Give a folder of `unfinished_folder` its name."""
    (folder / MARK).unlink()
    folder.rename(place)


def _foreign(folder: Path, layout: str) -> Iterator[str]:
    """Names, relative to the folder, of files and links to folders that do not fit the layout."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        here = Path(place)
        for name in sorted(folders):
            if (here / name).is_symlink():
                yield (here / name).relative_to(folder).as_posix()
        for name in sorted(files):
            path = (here / name).relative_to(folder).as_posix()
            if not re.fullmatch(layout, path) and not TEMPORARY_FILE.fullmatch(name):
                yield path


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
