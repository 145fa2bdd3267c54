"""Optuna's journal file: a line that a kill or a full disk tore off is cut off, any other damage is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from fkal.atomic_files import naming
from fkal.config.schema import ConfigError
from fkal.errors import first_line

BEGINNING = b'{"op_code":'
"""Of each line that Optuna writes."""
TORN = ".torn"
BEGINS_STUDY = 0
"""Operation of a line that begins a study; studies are counted from 0."""


class JournalLock(BaseJournalFileLock):
    """Of the journal file; unlike Optuna's own it goes with its process, so that a killed one blocks nobody.

    Whoever has it finds whole lines alone: a line is never added to the rest of a torn one.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._lock = FileLock(f"{path}.append.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            if not _ends_whole(self._path):
                cut_torn_line(self._path, self._say)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def open_journal(path: Path, say: Callable[[str], None]) -> JournalStorage:
    """The journal at `path`, a new one if there is none. Raises ConfigError for a file that is none."""
    _refuse_no_file(path)
    lock = JournalLock(path, say)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        try:
            cut_torn_line(path, say)
        finally:
            lock.release()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _replayed(path, lock)


def read_journal(path: Path) -> JournalStorage:
    """The journal that is there, of which nothing is changed. Raises ConfigError for a file that is none."""
    _refuse_no_file(path)
    try:
        _torn_from(path, path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    return _replayed(path, None)


def _replayed(path: Path, lock: JournalLock | None) -> JournalStorage:
    """Optuna's storage, which reads all lines as it is made."""
    try:
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise _unreadable(path, error) from error


def _refuse_no_file(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ConfigError(f"--storage {path}: is no file; name a journal file, or a new one")


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"--storage {path}: no journal that can be read and written ({first_line(error)}); name another file"
    )


def cut_torn_line(path: Path, say: Callable[[str], None]) -> None:
    """Cut off a last line that is not whole; it is kept beside. Raises ConfigError for any other damage."""
    if not path.exists():
        return
    content = path.read_bytes()
    start = _torn_from(path, content)
    if start is None:
        return
    kept = path.with_name(path.name + TORN)
    with naming(kept), kept.open("ab") as file:
        file.write(content[start:] + b"\n")
    with path.open("r+b") as file:
        file.truncate(start)
        file.flush()
        os.fsync(file.fileno())
    say(f"{path}: a kill or a full disk tore its last line, which is cut off and kept in {kept.name}")


def _torn_from(path: Path, content: bytes) -> int | None:
    """Where a torn last line begins; None if all are whole."""
    start = begun = 0
    for number, line in enumerate(_lines(content), 1):
        entry = _entry(line) if line.endswith(b"\n") else None
        if entry is None:
            if start + len(line) == len(content) and _may_be_torn(line):
                return start
            raise ConfigError(
                f"--storage {path}: line {number} is none of Optuna's journal "
                f"({line[:40].decode(errors='replace')!a}); put a sound copy in its place, or name another file"
            )
        begun += entry["op_code"] == BEGINS_STUDY
        study = entry.get("study_id")
        if isinstance(study, int) and study >= begun:  # Optuna would take no notice of it
            raise ConfigError(
                f"--storage {path}: line {number} is of study {study}, and the lines before it begin {begun} studies; "
                "put a sound copy in its place, or name another file"
            )
        start += len(line)
    return None


def _lines(content: bytes) -> list[bytes]:
    """Ended by a line feed alone, as Optuna reads them."""
    *whole, rest = content.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _entry(line: bytes) -> dict[str, Any] | None:
    """What the line says; None for one that is none of Optuna's."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(entry, dict) and type(entry.get("op_code")) is int and isinstance(entry.get("worker_id"), str)
    return entry if is_one else None


def _may_be_torn(line: bytes) -> bool:
    """It begins as Optuna's lines do, or is what a power failure leaves where a line was to be."""
    written = line.rstrip(b"\0\r\n")
    try:
        json.loads(line)
        return False
    except (ValueError, RecursionError):
        return written.startswith(BEGINNING) or BEGINNING.startswith(written)


def _ends_whole(path: Path) -> bool:
    """Whether nothing follows the last end of a line."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
