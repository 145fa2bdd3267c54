"""Whether a folder is on a network file system, where SQLite's locks cannot be relied on."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|ncpfs|afs|lustre|gpfs|beegfs|ceph|9p|fuse\.(sshfs|glusterfs|ceph|s3fs|gcsfuse)"
)
"""Types as the kernel names them."""


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the network file system that holds the folder; None on a disk, and where nothing tells mounts.

    Of the file systems that are mounted above the folder the last one with the longest path holds it.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    there = folder.resolve()
    best: tuple[int, str] = (0, "")
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if not separator or len(fields) < 5 or not kinds:
            continue
        place = Path(_unescaped(fields[4]))
        if there.is_relative_to(place) and len(place.parts) >= best[0]:
            best = len(place.parts), kinds[0]
    return best[1] if NETWORK.fullmatch(best[1]) else None


def _unescaped(path: str) -> str:
    """As the kernel writes spaces, tabs, newlines and backslashes."""
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, letter)
    return path
