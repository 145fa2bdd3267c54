"""Image files of one part of a dataset: a folder tree or a tar of one, PART/CLASS/FILE."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.data.errors import CorruptData, CorruptImage, MissingData

TAR_BLOCK = 512


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files sorted by class and name; `spans` says where in a tar each lies."""

    where: Path  # the folder or the tar
    names: tuple[str, ...]  # relative to it
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] | None = None  # (offset, size)

    def __len__(self) -> int:
        return len(self.names)

    def bytes_of(self, index: int) -> bytes:
        """The whole file."""
        try:
            return self._read(index)
        except OSError as error:
            raise CorruptImage(
                f"cannot read {self.path(index)}: {error.strerror or error}; put it back or draw a new split"
            ) from error

    def path(self, index: int) -> str:
        """Where a person finds the file."""
        return f"{self.where}{'/' if self.spans is None else ':'}{self.names[index]}"

    def _read(self, index: int) -> bytes:
        if self.spans is None:
            return (self.where / self.names[index]).read_bytes()
        offset, size = self.spans[index]
        with self.where.open("rb") as tar:
            tar.seek(offset)
            return tar.read(size)


def folder_files(tree: Path, part: str) -> ImageFiles:
    """Of tree/part, as torchvision's ImageFolder lists it."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

    try:
        classes, label_of = find_classes(tree / part)
        listed = make_dataset(tree / part, label_of, extensions=IMG_EXTENSIONS)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingData(f"{tree / part}: {_first_sentence(error)}") from error
    names = tuple(Path(path).relative_to(tree).as_posix() for path, _ in listed)
    return ImageFiles(tree, names, torch.tensor([label for _, label in listed]), tuple(classes))


def tar_parts(tar: Path, *parts: str) -> list[ImageFiles]:
    """Of ANY/part/CLASS/FILE in an uncompressed tar, which is listed once and read in place."""
    members = _members(tar)
    return [_tar_part(tar, members, part) for part in parts]


def refuse_other_classes(train: Sequence[str], test: Sequence[str], where: Path) -> None:
    """Both parts of a tree must have the same class folders."""
    if tuple(train) != tuple(test):
        only = [f"train/{name}" for name in train if name not in test]
        only += [f"test/{name}" for name in test if name not in train]
        more = f" and {len(only) - 5} more" if len(only) > 5 else ""
        raise CorruptData(
            f"{where}: class folders {', '.join(only[:5])}{more} lie in one part only; "
            "give both parts the same class folders"
        )


def _tar_part(tar: Path, members: list[tarfile.TarInfo], part: str) -> ImageFiles:
    placed = sorted((*_class_and_name(m.name), m.offset_data, m.size) for m in members if _part_of(m.name) == part)
    if not placed:
        raise CorruptData(f"{tar}: holds no images as */{part}/CLASS/FILE; make it anew")
    classes = tuple(sorted({label for label, *_ in placed}))
    label_of = {name: label for label, name in enumerate(classes)}
    return ImageFiles(
        where=tar,
        names=tuple(f"{part}/{label}/{name}" for label, name, *_ in placed),
        labels=torch.tensor([label_of[label] for label, *_ in placed]),
        classes=classes,
        spans=tuple((offset, size) for *_, offset, size in placed),
    )


def _members(tar: Path) -> list[tarfile.TarInfo]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    try:
        with tarfile.open(tar, "r:") as archive:
            members = [m for m in archive.getmembers() if m.isreg()]
        _refuse_without_end(tar)
    except tarfile.TarError as error:
        raise CorruptData(f"{tar}: not a whole uncompressed tar ({error}); copy it here again") from error
    return [m for m in members if m.name.lower().endswith(IMG_EXTENSIONS)]


def _refuse_without_end(tar: Path) -> None:
    """A tar ends with two zero blocks; one cut between two files would otherwise pass for whole."""
    with tar.open("rb") as file:
        file.seek(-min(2 * TAR_BLOCK, tar.stat().st_size), 2)
        if any(file.read()):
            raise tarfile.ReadError("its end is missing")


def _part_of(name: str) -> str:
    parts = PurePosixPath(name).parts
    return parts[1] if len(parts) >= 4 else ""


def _class_and_name(name: str) -> tuple[str, str]:
    parts = PurePosixPath(name).parts
    return (parts[2], "/".join(parts[3:])) if len(parts) >= 4 else ("", "")


def _first_sentence(error: OSError) -> str:
    return error.strerror or str(error).split(". ")[0]
