"""Files that experiments share: splits, pretrained weights and descriptors, made once, used by all.

Two processes that want the same file at once make it once: the second waits for the first.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fkal.atomic_files import write_whole
from fkal.data.splits import Split, split_bytes, write_split
from fkal.locks import NamedLock

P = TypeVar("P")
Say = Callable[[str], None]
CHECKSUM, OF = "sha256", "of"


def written_split(path: Path, split: Split, say: Say) -> None:
    """Leaves the split at `path`; a file there that holds anything else is reported and replaced."""
    with _locked(path, say):
        if path.exists():
            if path.read_bytes() == split_bytes(split):
                return
            say(f"{path}: corrupt, or not the split of this recipe; it is drawn again")
        write_split(split, path)


def shared_tensors(
    path: Path, make: Callable[[], Generator[P, None, dict[str, Tensor]]], say: Say, of: str = ""
) -> Generator[P, None, dict[str, Tensor]]:
    """The tensors at `path`, or else made by `make` (whose progress is passed on) and kept there.

    `of` says what they are made of. A file that is not what was once written there, or that is of anything
    else, is reported and made again.
    """
    with _locked(path, say):
        if path.exists():
            try:
                return _checked(path, of)
            except (SafetensorError, ValueError, OSError) as error:
                say(f"{path}: not what was kept there ({error}); it is made again")
        tensors = yield from make()
        write_whole(path, save(tensors, metadata={CHECKSUM: checksum(tensors)} | ({OF: of} if of else {})))
    return tensors


def _checked(path: Path, of: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        told = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    if told.get(CHECKSUM) != checksum(tensors):
        raise ValueError("its checksum does not fit its tensors")
    if told.get(OF, "") != of:
        raise ValueError("it is made of something else")
    return tensors


def checksum(weights: Mapping[str, Tensor]) -> str:
    """Digest of names, types, shapes and values."""
    content = hashlib.sha256()
    for name in sorted(weights):
        content.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}\n".encode())
        content.update(weights[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedLock(Path(f"{path}.lock"), waiting=say):
        yield
