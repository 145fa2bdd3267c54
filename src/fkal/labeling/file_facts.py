"""What is known of image files: digest, size, format, what is wrong with them. Remembered, so that a scan goes on.

`.fkal/state/files.sqlite` has a row per address. A file whose size, times and inode are those of its row is not read
again. A killed scan keeps what it wrote.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from fkal.data.addresses import bytes_at, is_url
from fkal.data.decoding import decode
from fkal.data.errors import CorruptImage, Flaw, printable
from fkal.data.file_digests import SETTLED_NS
from fkal.data.files import flaws_of_file
from fkal.data.loading import in_processes
from fkal.errors import ConfigError
from fkal.notify import Shown

FILES_A_JOB = 32
"""Read by a worker at once, and remembered together."""
FILES_AT_ONCE = 4096
"""Looked up together, so that memory does not grow with the pool."""
WORTH_WORKERS = 512
"""Files to read; fewer are read before workers have started."""
LARGEST_INTEGER = 2**63 - 1
"""That SQLite holds."""
DECODER_REVISION = 1
"""Raised where the decoder accepts other files than before: all are read again then."""
TABLE = f"facts_{DECODER_REVISION}"

PRIMARY_CODE = 0xFF
"""Of SQLite's extended result codes, the part that says the kind."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
SYSTEM_ERRORS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}

UNREAD = (Flaw.MISSING.value, Flaw.UNREADABLE.value)
"""Flaws of a file whose bytes were not seen."""
Stamp = tuple[int, int, int, int]
"""Size, mtime, ctime, inode."""


class Facts(NamedTuple):
    """Of one file. With a flaw, `reason` says why it cannot be used, and what could not be known is None or 0."""

    digest: str | None = None
    bytes: int = 0
    width: int | None = None
    height: int | None = None
    format: str = ""
    changes: int = 0
    flaw: str | None = None
    reason: str = ""


class Reading(NamedTuple):
    """How far a scan is."""

    phase: str
    done: int
    total: int
    unit: str = "files"


class FileFacts:
    """Facts by address, while the `with` block lasts."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._database = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def learn(
        self, addresses: Iterable[str], total: int, *, workers: int, shown: Shown, phase: str, every: bool = False
    ) -> int:
        """Reads the files that are new or changed, and remembers them; returns how many were read.

        With `every`, all are read again. URLs are read once. Raises Unreachable where a store does not answer.
        """
        done = read = 0
        waiting = iter(addresses)
        shown.show(Reading(phase, 0, total))
        while block := list(islice(waiting, FILES_AT_ONCE)):
            stale = block if every else self._stale(block)
            done += len(block) - len(stale)
            for job in self._read(stale, workers if len(stale) >= WORTH_WORKERS else 0):
                self._remember(job)
                done, read = done + len(job), read + len(job)
                shown.show(Reading(phase, done, total))
        shown.show(Reading(phase, total, total))
        return read

    def of(self, addresses: Sequence[str]) -> list[Facts]:
        """What is known of each; of a file that was never read, that it is missing."""
        known = self._rows(addresses)
        unknown = Facts(flaw=Flaw.MISSING.value, reason="it was not read yet")
        return [known[key][1] if key in known else unknown for key in map(os.fsencode, addresses)]

    def _stale(self, block: Sequence[str]) -> list[str]:
        known = self._rows(block)
        return [address for address in block if not _is_current(address, known.get(os.fsencode(address)))]

    def _rows(self, addresses: Sequence[str]) -> dict[bytes, tuple[Stamp | None, Facts]]:
        found: dict[bytes, tuple[Stamp | None, Facts]] = {}
        for start in range(0, len(addresses), 500):
            keys = [os.fsencode(address) for address in addresses[start : start + 500]]
            marks = ",".join("?" * len(keys))
            with _system_errors(self._path):
                rows = self._database.execute(f"SELECT * FROM {TABLE} WHERE address IN ({marks})", keys).fetchall()
            for row in rows:
                stamp = None if row[1] is None else (row[1], row[2], row[3], row[4])
                found[row[0]] = stamp, Facts(*row[5:])
        return found

    def _read(self, addresses: Sequence[str], workers: int) -> Iterator[list[_Found]]:
        jobs = [addresses[start : start + FILES_A_JOB] for start in range(0, len(addresses), FILES_A_JOB)]
        return iter(in_processes(_Reader(), jobs, workers=min(workers, len(jobs))))

    def _remember(self, found: Sequence[_Found]) -> None:
        rows = [(os.fsencode(each.address), *(each.stamp or (None,) * 4), *each.facts) for each in found]
        marks = ",".join("?" * len(rows[0]))
        with _system_errors(self._path), self._database:
            self._database.executemany(f"INSERT OR REPLACE INTO {TABLE} VALUES ({marks})", rows)


class _Found(NamedTuple):
    address: str
    stamp: Stamp | None  # None: it changed so lately that another change would not show
    facts: Facts


class _Reader:
    """For the loader: addresses -> what is found of each."""

    def __getitem__(self, job: Sequence[str]) -> list[_Found]:
        return [_found(address) for address in job]


def _found(address: str) -> _Found:
    """A file that changes while it is read is read again by the next scan."""
    stamp = None if is_url(address) else _stamp(address)
    facts = _facts(address)
    if is_url(address):
        return _Found(address, (facts.bytes, 0, 0, 0), facts)
    settled = stamp is not None and stamp == _stamp(address) and time.time_ns() - stamp[2] >= SETTLED_NS
    return _Found(address, stamp if settled else None, facts)


def _facts(address: str) -> Facts:
    name = printable(address)
    try:
        with flaws_of_file(name, ""):
            data = bytes_at(address)
    except CorruptImage as error:
        return Facts(flaw=error.flaw.value, reason=error.reason)
    digest = hashlib.sha256(data).hexdigest()
    try:
        decoded = decode(data, name)
    except CorruptImage as error:
        return Facts(digest, len(data), flaw=error.flaw.value, reason=error.reason)
    width, height = decoded.image.size
    return Facts(digest, len(data), width, height, decoded.format, int(decoded.changes))


def _is_current(address: str, known: tuple[Stamp | None, Facts] | None) -> bool:
    """A package may have been installed meanwhile, and a URL that could not be read may be there again."""
    if known is None or known[0] is None or known[1].flaw == Flaw.NEEDS_PACKAGE.value:
        return False
    return known[1].flaw not in UNREAD if is_url(address) else _stamp(address) == known[0]


def _stamp(address: str) -> Stamp | None:
    try:
        found = os.stat(address)  # noqa: PTH116  a million times
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino & LARGEST_INTEGER


def _opened(path: Path) -> sqlite3.Connection:
    """A file that is no database is as good as none: all that is in it can be found out again."""
    try:
        return _prepared(path)
    except sqlite3.DatabaseError:
        for name in (path.name, f"{path.name}-journal"):
            path.with_name(name).unlink(missing_ok=True)
        with _system_errors(path):
            return _prepared(path)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """SQLite's own errors as those of the system, with the path: a full disk, a folder that takes nothing.

    Raises ConfigError where the file is damaged further in than its opening shows.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE
        if code in DAMAGED:
            raise ConfigError(f"{path}: {error}; remove it: what it remembers is read again") from error
        raise OSError(SYSTEM_ERRORS.get(code, errno.EIO), str(error), str(path)) from error


def _prepared(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode=TRUNCATE")
        database.execute("PRAGMA synchronous=OFF")  # a power failure costs what can be found out again
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (address BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, "
            "ctime INTEGER, inode INTEGER, digest TEXT, bytes INTEGER, width INTEGER, height INTEGER, format TEXT, "
            "changes INTEGER, flaw TEXT, reason TEXT) WITHOUT ROWID"
        )
        database.commit()
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database
