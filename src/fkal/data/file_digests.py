"""Digests of files, remembered so that unchanged files are not read again. Imports no torch.

`<folder>/<digest>.json` holds those of one dataset and root: by name the size, mtime, ctime, inode and digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fkal.atomic_files import write_whole
from fkal.data.regular_files import open_regular, read_regular
from fkal.folders import below
from fkal.identifiers import DIGEST
from fkal.notify import Notify

DIGEST_LENGTH = 32  # hexadecimal digits
FORMAT = "fkal-digests-1"
MOST_MEMORIES = 64
"""Files of digests that are kept; the longest unused go first."""
MOST_NAMES = 5_000_000
"""Files of one dataset whose digests are remembered."""
LARGEST = 2**30
"""Bytes of a file of digests that is read."""
SETTLED_NS = 2_000_000_000
"""A file that was changed so shortly before could be changed again and keep its times: it is not remembered yet.

Times on some file systems have steps of two seconds.
"""

Stamp = tuple[int, int, int, int]
"""Size, mtime, ctime, inode."""


class FileDigests:
    """Digests by name below a root. With `verify` nothing is believed, and all is read and remembered again.

    With `looks_only` nothing is written.
    """

    def __init__(self, folder: Path, say: Notify, *, verify: bool = False, looks_only: bool = False) -> None:
        self._folder = folder
        self._say = say
        self._verify = verify
        self._looks_only = looks_only
        self._verified: dict[str, dict[str, list[Any]]] = {}

    def of(self, dataset: str, root: Path, names: Sequence[str]) -> dict[str, str]:
        """The digest of each name below `root`. Raises OSError for a name without a regular file."""
        memory = self._path(dataset, root)
        known = self._verified.get(memory.name, {}) if self._verify else _remembered(memory)
        found: dict[str, str] = {}
        kept: dict[str, list[Any]] = {}
        for name in names:
            path = root / name
            stamp = stamp_of(path.stat())
            digest = _digest_of(known.get(name), stamp)
            if digest is None:
                digest, stamp, is_settled = _read(path)
            else:
                is_settled = True
            found[name] = digest
            if is_settled:
                kept[name] = [*stamp, digest]
        if self._verify:
            self._verified[memory.name] = kept
        if kept != known and len(kept) <= MOST_NAMES and not self._looks_only:
            self._remember(memory, kept)
        return found

    def _path(self, dataset: str, root: Path) -> Path:
        key = hashlib.sha256(dataset.encode() + b"\0" + os.fsencode(root.absolute())).hexdigest()
        return below(self._folder, f"{key[:DIGEST_LENGTH]}.json")

    def _remember(self, path: Path, files: Mapping[str, Any]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"format": FORMAT, "files": files}, separators=(",", ":"))
            write_whole(path, text.encode("ascii"))  # which escapes surrogates, so every name comes back
            forget_oldest(self._folder, MOST_MEMORIES)
        except OSError as error:
            self._say(
                f"{path}: {error.strerror or error}; digests are not remembered, and all files are read each time"
            )


def forget_oldest(folder: Path, most: int) -> None:
    """Removes files that are named by a digest until `most` are left; the longest unused go first."""
    files = [path for path in folder.glob("*.json") if re.fullmatch(DIGEST, path.stem)]
    for path in sorted(files, key=lambda path: path.lstat().st_mtime_ns)[:-most]:
        path.unlink(missing_ok=True)


def _remembered(path: Path) -> Mapping[str, Any]:
    """What cannot be read, or is not what was written, is as good as nothing: it is written again."""
    try:
        values = json.loads(read_regular(path, limit=LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(values, dict) or values.get("format") != FORMAT or not isinstance(values.get("files"), dict):
        return {}
    files: Mapping[str, Any] = values["files"]
    return files


def _digest_of(entry: Any, stamp: Stamp) -> str | None:
    """The remembered digest, if the entry is whole and of the file as it is."""
    if not isinstance(entry, list) or entry[:-1] != list(stamp):
        return None
    digest = entry[-1]
    return digest if isinstance(digest, str) and re.fullmatch(DIGEST, digest) else None


def _read(path: Path) -> tuple[str, Stamp, bool]:
    """The digest of the bytes, the stamp, and whether a later change would show in the stamp."""
    with open_regular(path) as file:
        before = stamp_of(os.fstat(file.fileno()))
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
        after = os.fstat(file.fileno())
    is_settled = stamp_of(after) == before and time.time_ns() - after.st_ctime_ns >= SETTLED_NS
    return digest, before, is_settled


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes when a file changes."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
