"""Reads regular files alone: a pipe or a device would never end, a folder never begin."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

IRREGULAR = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class IrregularFile(OSError):
    """A path names something that is no regular file."""


class FileTooLarge(OSError):
    """A file has more bytes than its reader takes."""


def refuse_irregular(path: Path | str) -> None:
    """Raises IrregularFile, or the OSError of a path that leads to nothing; links are followed."""
    _refuse_mode(Path(path).stat().st_mode)


@contextmanager
def open_regular(path: Path | str, *, limit: int | None = None) -> Iterator[BufferedReader]:
    """The file, open for reading bytes; one of more than `limit` bytes raises FileTooLarge."""
    refuse_irregular(path)  # before it is opened, which alone can block or do something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        _refuse_mode(found.st_mode)
        if limit is not None and found.st_size > limit:
            raise FileTooLarge(errno.EFBIG, f"{found.st_size:,} bytes, more than {limit:,}")
        yield file


def read_regular(path: Path | str, *, limit: int) -> bytes:
    """The bytes that the file has by its size; a pseudo-file without a size is empty."""
    with open_regular(path, limit=limit) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def regular_bytes(path: Path) -> bytes:
    """The bytes of a file of any size. Raises OSError, which names the path; of a pipe nothing is waited for."""
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _refuse_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = IRREGULAR.get(stat.S_IFMT(mode), "something else")
        raise IrregularFile(errno.EINVAL, f"it is {kind}, not a file")
