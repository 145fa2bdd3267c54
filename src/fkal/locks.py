"""Locks between processes. The holder's name is beside the lock, so that whoever waits can say for whom."""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from fkal.atomic_files import naming

HOLDER = ".holder"
SOON_SECONDS = 2.0
"""A lock that is free within this time is not worth a line."""
LINE_SECONDS = 60.0


class LockHeld(ValueError):
    """Another process holds the lock."""


class NamedLock:
    """Holds a lock file while the `with` block lasts; it goes with its process.

    `<path>.holder` says which process has it. With `waiting` whoever comes second waits, and says so once a minute;
    without, LockHeld is raised.
    """

    def __init__(
        self, path: Path, waiting: Callable[[str], None] | None = None, *, quiet_seconds: float = SOON_SECONDS
    ) -> None:
        self.path = Path(path)
        self._holder = self.path.with_name(self.path.name + HOLDER)
        self._waiting = waiting
        self._quiet_seconds = quiet_seconds
        self._lock = FileLock(self.path)

    @property
    def is_held(self) -> bool:
        """By this object."""
        return bool(self._lock.is_locked)

    def __enter__(self) -> Self:
        """Raises LockHeld if another process has it and nobody wants to wait."""
        seconds = self._quiet_seconds
        while True:
            try:
                self._lock.acquire(timeout=seconds)
                break
            except Timeout:
                if self._waiting is None:
                    raise LockHeld(f"{self.path} is held by {self.holder()}") from None
                self._waiting(f"waiting for {self.path}, which is held by {self.holder()}")
                seconds = LINE_SECONDS
        try:
            with naming(self._holder):
                self._holder.write_text(json.dumps(_this_process()))
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(FileNotFoundError):  # its folder may have been removed meanwhile
            self._holder.unlink()
        self._lock.release()

    def holder(self) -> str:
        """Which process has it, as far as it has written its name."""
        try:
            found = json.loads(self._holder.read_bytes())
            pid, host, since = int(found["pid"]), str(found["host"]), datetime.fromisoformat(found["since"])
        except (OSError, KeyError, TypeError, ValueError):
            return "another process"
        return f"process {pid} on {ascii(host)[1:-1]} since {since:%Y-%m-%d %H:%M:%S}"


def _this_process() -> dict[str, int | str]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
