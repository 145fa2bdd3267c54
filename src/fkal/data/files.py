"""Image files of one part of a dataset: a folder tree or a tar of one, PART/CLASS/FILE.

Links to files and to folders are followed, also out of the tree, as linked datasets need it; a folder that was read
already for its class is not read again, so links in circles end. What is hidden, what other programs leave behind
and what is no image by its name is left out and counted.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.data.addresses import LARGEST_FILE
from fkal.data.decoding import Change, corrupt_image, corruption, described_changes
from fkal.data.errors import CorruptData, CorruptImage, Flaw, IncompleteData, printable
from fkal.data.regular_files import FileTooLarge, IrregularFile, open_regular, read_regular
from fkal.data.tree_files import EXTENSIONS, HIDDEN, class_folders, images_below, is_left_by_programs, kind_of

TAR_BLOCK = 512
NAMED = 5  # of many names in one message


@runtime_checkable
class ImageSource(Protocol):
    """Image files by index, with their labels."""

    @property
    def labels(self) -> Int64[Tensor, " n"]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def printable_names(self) -> Sequence[str]:
        """As people read them and files of text take them."""
        ...

    @property
    def described(self) -> str:
        """What a note calls all of them."""
        ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """How many files of which kind are not among them."""
        ...

    def __len__(self) -> int: ...

    def path(self, index: int) -> str:
        """Where a person finds the file."""
        ...

    def bytes_of(self, index: int) -> bytes:
        """The whole file; raises CorruptImage for one that cannot be read."""
        ...


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files sorted by class and name; `spans` says where in a tar each is, `left_out` what is not among them."""

    where: Path  # the folder or the tar
    names: tuple[str, ...]  # relative to it
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] | None = None  # (offset, size)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def printable_names(self) -> tuple[str, ...]:
        """As people read them and files of text take them."""
        return tuple(map(printable, self.names))

    @property
    def described(self) -> str:
        """`/data/pets, train`."""
        return f"{printable(self.where)}, {self.names[0].split('/')[0]}"

    def bytes_of(self, index: int) -> bytes:
        """The whole file."""
        with flaws_of_file(self.path(index), "put it back or draw a new split"):
            return self._read(index)

    @contextmanager
    def opened(self, index: int) -> Iterator[io.BytesIO | io.BufferedReader]:
        """The file, for its first bytes."""
        if self.spans is not None:
            yield io.BytesIO(self.bytes_of(index))
            return
        named = flaws_of_file(self.path(index), "put it back or draw a new split")
        with named, open_regular(self.where / self.names[index], limit=LARGEST_FILE) as file:
            yield file

    def path(self, index: int) -> str:
        """Where a person finds the file."""
        return printable(f"{self.where}{'/' if self.spans is None else ':'}{self.names[index]}")

    def _read(self, index: int) -> bytes:
        if self.spans is None:
            return read_regular(self.where / self.names[index], limit=LARGEST_FILE)
        offset, size = self.spans[index]
        with self.where.open("rb") as tar:
            tar.seek(offset)
            return tar.read(size)


@contextmanager
def flaws_of_file(path: str, way_out: str) -> Iterator[None]:
    """Turns what the file system says of one file into a CorruptImage."""
    try:
        yield
    except OSError as error:
        flaws: dict[type[OSError], Flaw] = {
            IrregularFile: Flaw.IRREGULAR,
            FileTooLarge: Flaw.TOO_LARGE,
            FileNotFoundError: Flaw.MISSING,
        }
        reason = error.strerror or str(error)
        flaw = flaws.get(type(error), Flaw.UNREADABLE)
        raise CorruptImage(f"cannot read {path}: {reason}; {way_out}", flaw, reason) from error


def folder_files(tree: Path, part: str) -> ImageFiles:
    """Of tree/part, in the order of torchvision's ImageFolder."""
    left_out: Counter[str] = Counter()
    flawed: list[tuple[str, str]] = []
    classes = class_folders(tree / part, left_out)
    by_class = {name: images_below(tree / part / name, left_out, flawed) for name in classes}
    if flawed:
        raise CorruptImage(corruption(flawed), Flaw.IRREGULAR, flawed[0][1])
    empty = [name for name, files in by_class.items() if not files]
    if empty:
        raise IncompleteData(_without_images(tree, part, empty, left_out))
    return ImageFiles(
        where=tree,
        names=tuple(f"{part}/{name}/{file}" for name, files in by_class.items() for file in files),
        labels=torch.tensor([label for label, files in enumerate(by_class.values()) for _ in files]),
        classes=_printable_classes(classes, tree / part),
        left_out=left_out,
    )


def with_added(files: ImageFiles, added: ImageFiles) -> ImageFiles:
    """The files of two folders of the same classes, the added ones last; their names start from the first folder."""
    way = os.path.relpath(os.path.realpath(added.where), os.path.realpath(files.where))
    return ImageFiles(
        where=files.where,
        names=(*files.names, *(os.path.normpath(f"{way}/{name}") for name in added.names)),
        labels=torch.cat([files.labels, added.labels]),
        classes=files.classes,
        left_out=Counter(files.left_out) + Counter(added.left_out),
    )


def tar_parts(tar: Path, *parts: str) -> list[ImageFiles]:
    """Of ANY/part/CLASS/FILE in an uncompressed tar, which is listed once and read in place."""
    left_out: Counter[str] = Counter()
    members = _members(tar, left_out)
    return [_tar_part(tar, members, part, left_out if part == parts[0] else {}) for part in parts]


def notes_on(files: ImageSource, changes: Sequence[Change]) -> tuple[str, ...]:
    """What was left out of a part of a dataset and what its decoder changed, a line each."""
    where = files.described
    left_out = [f"{n:,} {kind}" for kind, n in files.left_out.items() if n]
    changed = described_changes(changes)
    return (
        *([f"{where}: left out: {', '.join(left_out)}"] if left_out else []),
        *([f"{where}: of {len(files):,} images {', '.join(changed)}"] if changed else []),
    )


def refuse_other_classes(train: ImageFiles, test: ImageFiles, *, test_name: str) -> None:
    """Both parts of a tree must have the same class folders."""
    if train.classes == test.classes:
        return
    names = {"train": train.classes, test_name: test.classes}
    only = [
        f"{part}/{name}"
        for part, other in (("train", test_name), (test_name, "train"))
        for name in names[part]
        if name not in names[other]
    ]
    raise CorruptData(
        f"{printable(train.where)}: class folders {_few(only)} are in one part only; "
        "give both parts the same class folders: add images of each class to the other part, or remove its folder"
    )


def _without_images(tree: Path, part: str, empty: Sequence[str], left_out: Mapping[str, int]) -> str:
    folders = _few([f"{part}/{name}" for name in empty])
    found = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items() if n)
    return (
        f"{printable(tree)}: no images in {folders}{f' (left out: {found})' if found else ''}; "
        f"put images ({', '.join(EXTENSIONS)}) there, or remove the class from every part"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(map(printable, names[:NAMED]))}{more}"


def _printable_classes(names: Iterable[str], where: Path) -> tuple[str, ...]:
    """Class names go into tables, figures and files of text."""
    classes = tuple(map(printable, names))
    if len(set(classes)) < len(classes):
        twice = [name for name, n in Counter(classes).items() if n > 1]
        raise CorruptData(f"{printable(where)}: two class folders are both shown as {_few(twice)}; rename one")
    return classes


def _tar_part(tar: Path, members: list[tarfile.TarInfo], part: str, left_out: Mapping[str, int]) -> ImageFiles:
    placed = sorted((*_class_and_name(m.name), m.offset_data, m.size) for m in members if _part_of(m.name) == part)
    if not placed:
        raise CorruptData(f"{printable(tar)}: holds no images as */{part}/CLASS/FILE; pack it again")
    classes = tuple(sorted({label for label, *_ in placed}))
    label_of = {name: label for label, name in enumerate(classes)}
    return ImageFiles(
        where=tar,
        names=tuple(f"{part}/{label}/{name}" for label, name, *_ in placed),
        labels=torch.tensor([label_of[label] for label, *_ in placed]),
        classes=_printable_classes(classes, tar),
        spans=tuple((offset, size) for *_, offset, size in placed),
        left_out=left_out,
    )


def _members(tar: Path, left_out: Counter[str]) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(tar, "r:") as archive:
            members = [m for m in archive.getmembers() if not m.isdir()]
        _refuse_without_end(tar)
    except OSError as error:
        raise CorruptData(f"{printable(tar)}: cannot be read ({error.strerror or error}); make it readable") from error
    except (tarfile.TarError, ValueError, IndexError, OverflowError) as error:
        reason = printable(str(error))
        raise CorruptData(f"{printable(tar)}: not a whole uncompressed tar ({reason}); copy it here again") from error
    kept = [m for m in members if not any(map(is_left_by_programs, PurePosixPath(m.name).parts[1:]))]
    images = [m for m in kept if m.name.lower().endswith(EXTENSIONS)]
    left_out[HIDDEN] += len(members) - len(kept)
    for member in kept:
        if not member.name.lower().endswith(EXTENSIONS):
            left_out[kind_of(member.name)] += 1
    for member in images:
        _refuse_unless_plain(tar, member)
    return images


def _refuse_unless_plain(tar: Path, member: tarfile.TarInfo) -> None:
    name = f"{tar}:{member.name}"
    if not member.isreg() or member.issparse():
        raise corrupt_image(name, Flaw.IRREGULAR, "in the tar it is a link or a device, not a plain file")
    if member.size > LARGEST_FILE:
        raise corrupt_image(name, Flaw.TOO_LARGE, f"{member.size:,} bytes, more than {LARGEST_FILE:,}")


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
