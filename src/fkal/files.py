"""Files that are there whole or not at all."""

import os
from pathlib import Path

TEMPORARY = ".tmp"


def write_whole(path: Path, content: bytes) -> None:
    """Under a temporary name in the same directory, brought to the disk, then renamed."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """So that the new name outlives a power failure; where directories cannot be opened, no more than that is lost."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
