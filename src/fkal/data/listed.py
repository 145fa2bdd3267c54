"""Image files that a list names: in several folders, behind URLs, some of them without a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from fkal.data.addresses import bytes_at, joined
from fkal.data.decoding import covering_view
from fkal.data.errors import printable
from fkal.data.files import flaws_of_file
from fkal.data.images import FolderImages, ImageSet, TensorImages
from fkal.data.settings import Decoding, Interpolation
from fkal.data.trees import IN_MEMORY, decoded_files


@dataclass(frozen=True, eq=False)
class ListedFiles:
    """Files by their place in a list: `names[i]` below `bases[roots[i]]`; the label is -1 where nobody knows it."""

    bases: tuple[str, ...]
    roots: Sequence[int]
    names: Sequence[str]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def printable_names(self) -> Sequence[str]:
        """As people read them."""
        return PrintableNames(self.names)

    @property
    def described(self) -> str:
        return printable(", ".join(self.bases))

    def address(self, index: int) -> str:
        """The path or URL to read."""
        return joined(self.bases[self.roots[index]], self.names[index])

    def path(self, index: int) -> str:
        """Where a person finds the file."""
        return printable(self.address(index))

    def bytes_of(self, index: int) -> bytes:
        """The whole file; raises CorruptImage for one that cannot be read."""
        with flaws_of_file(self.path(index), "put it back, or give the command again: it goes on without it"):
            return bytes_at(self.address(index))


class PrintableNames(Sequence[str]):
    """Names as people read them, each made when it is asked for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        found = self._names[index]
        return printable(found) if isinstance(found, str) else [printable(name) for name in found]


def fit_in_memory(images: int, size: int) -> bool:
    """Whether so many images of size x size are held at once; decide it for all parts that one model sees."""
    return images * 3 * size * size <= IN_MEMORY


def listed_images(
    files: ListedFiles,
    available: Int64[Tensor, " k"],
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    workers: int,
    digest: str,
    hashes: Sequence[bytes] | None = None,
    interpolation: Interpolation = "bilinear",
    decoding: Decoding | None = None,
    streamed: bool = False,
) -> ImageSet:
    """Images of three channels, size x size, in memory or `streamed`: evaluation sees the same pixels of them.

    Files that are not `available` are not read: they keep their index, and nothing may ask for their pixels.
    `hashes` has the SHA-256 of each file.
    """
    if streamed:
        return FolderImages(
            files,
            mean=mean,
            std=std,
            size=size,
            workers=workers,
            digest=digest,
            hashes=hashes,
            evaluated=covering_view,
            interpolation=interpolation,
            decoding=decoding,
            may_be_unlabeled=True,
        )
    return TensorImages(
        _decoded(files, available, size, workers, interpolation),
        files.labels,
        files.classes,
        mean=mean,
        std=std,
        names=files.printable_names,
        digest=digest,
        may_be_unlabeled=True,
    )


def _decoded(
    files: ListedFiles, available: Int64[Tensor, " k"], size: int, workers: int, interpolation: Interpolation
) -> UInt8[Tensor, "n 3 s s"]:
    """Zeros where a file is not available."""
    found = decoded_files(_chosen(files, available), size, size, workers, interpolation).pixels
    if len(available) == len(files):
        return found
    pixels = torch.zeros(len(files), 3, size, size, dtype=torch.uint8)
    pixels[available] = found
    return pixels


def _chosen(files: ListedFiles, indices: Int64[Tensor, " k"]) -> ListedFiles:
    chosen = indices.tolist()
    return ListedFiles(
        bases=files.bases,
        roots=[int(files.roots[index]) for index in chosen],
        names=[files.names[index] for index in chosen],
        labels=files.labels[indices],
        classes=files.classes,
    )
