"""Files that experiments share: splits, pretrained weights and descriptors, made once, used by all.

Two processes that want the same file at once make it once: the second waits for the first.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fkal.atomic_files import write_whole
from fkal.core.picks import is_finite
from fkal.data.regular_files import IrregularFile, refuse_irregular, regular_bytes
from fkal.data.splits import Split, split_bytes, write_split
from fkal.errors import first_line
from fkal.locks import NamedLock
from fkal.models.weights_files import checksum
from fkal.notify import Notify

P = TypeVar("P")
CHECKSUM, OF = "sha256", "of"


def ensure_split(path: Path, split: Split, say: Notify) -> None:
    """Leaves the split at `path`; a file there that holds anything else is reported and replaced."""
    with locked(path, say):
        if path.exists():
            wanted = split_bytes(split)
            if _is_regular(path) and path.stat().st_size == len(wanted) and regular_bytes(path) == wanted:
                return
            say(f"{path}: corrupt, or not the split of this recipe; it is drawn again")
        write_split(split, path)


def shared_tensors(
    path: Path, make: Callable[[], Generator[P, None, dict[str, Tensor]]], say: Notify
) -> Generator[P, None, dict[str, Tensor]]:
    """The tensors at `path`, or else made by `make` (whose progress is passed on) and kept there.

    The file's name is the digest of what they are made of; a file that was written under another name is made again.
    """
    with locked(path, say):
        tensors = read_tensors(path, say, path.stem)
        if tensors is not None and not all(map(_is_finite, tensors.values())):
            say(f"{path}: not what was kept there (NaN or infinite numbers); it is made again")
            tensors = None
        if tensors is None:
            tensors = yield from make()
            write_tensors(path, tensors, path.stem)
    return tensors


def read_tensors(path: Path, say: Notify, of: str = "") -> dict[str, Tensor] | None:
    """The tensors that were written at `path`, made of `of`; None where there are none.

    A file that is not what was once written there, or that is made of anything else, is reported.
    """
    if not path.exists():
        return None
    try:
        return _checked(path, of)
    except (SafetensorError, ValueError, OSError) as error:
        say(f"{path}: not what was kept there ({first_line(error)}); it is made again")
        return None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], of: str = "") -> None:
    """Whole or not at all; `of` says what they are made of.

    The header has one entry, since safetensors writes several in an order of its own, and the bytes must be the same.
    """
    write_whole(path, save(dict(tensors), metadata={CHECKSUM: f"{checksum(tensors)} {of}".rstrip()}))


def _checked(path: Path, of: str) -> dict[str, Tensor]:
    refuse_irregular(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    digest, _, said = metadata.get(CHECKSUM, "").partition(" ")
    if digest != checksum(tensors):
        raise ValueError("its checksum does not fit its tensors")
    if (said or metadata.get(OF, of)) != of:  # earlier versions had an entry for it, or none
        raise ValueError("it is made of something else")
    return tensors


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or is_finite(tensor)


def _is_regular(path: Path) -> bool:
    try:
        refuse_irregular(path)
    except IrregularFile:
        return False
    return True


@contextmanager
def locked(path: Path, say: Notify) -> Iterator[None]:
    """Holds the lock of a file; says so where another process has it, and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedLock(Path(f"{path}.lock"), waiting=say):
        yield
