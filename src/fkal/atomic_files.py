"""Files that are there whole or not at all."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fkal.errors import UserError

TEMPORARY = ".tmp"


class IrregularTarget(UserError, OSError):
    """A device or a pipe has the name of a file that is to be written."""


def write_whole(path: Path, content: bytes) -> None:
    """Under a temporary name in the same directory, brought to the disk, then renamed.

    Raises IrregularTarget where a device or a pipe has the name: renaming would take its place.
    """
    _refuse_device(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    scratch.unlink(missing_ok=True)
    try:
        with naming(path), scratch.open("xb") as file:  # not through a link that has this name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _refuse_device(path: Path) -> None:
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):
            raise IrregularTarget(f"{path}: a device or a pipe has this name; remove it, or name another file")
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to while the block lasts; what is there at its end is brought to the disk and gets the name.

    A block that raises leaves no file, and what had the name keeps it. Raises as `write_whole` does.
    """
    _refuse_device(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    scratch.unlink(missing_ok=True)
    try:
        with naming(path):
            yield scratch
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_directory(path.parent)


def link_whole(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none; it takes the place of what is there.

    Such files are never written to, only replaced: they may be those of a cache.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}{TEMPORARY}")
    scratch.unlink(missing_ok=True)
    try:
        try:
            os.link(source, scratch)
        except OSError:
            with naming(target):
                shutil.copyfile(source, scratch)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError from in here names the path: the system names one where a file is opened, not where it is written."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or str(error.filename).endswith(TEMPORARY)):
            error.filename = str(path)
        raise


def _sync_directory(directory: Path) -> None:
    """So that the new name outlives a power failure; where directories cannot be opened, no more than that is lost."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
