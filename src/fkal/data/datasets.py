"""How the name of a dataset becomes images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.data.digest import bytes_digest
from fkal.data.errors import CorruptData, CorruptImage, IncompleteData, MissingData, printable
from fkal.data.groups import group_numbers, refuse_shared
from fkal.data.images import Annotated, ImageSet, TensorImages
from fkal.data.places import tree_at
from fkal.data.registry import CutRule, DatasetEntry, PartsWithValidation, entry_of
from fkal.data.settings import EMBEDDINGS, DataConfig, has_captures, require_folder
from fkal.data.twins import OfFiles, Part, warnings_on_twins
from fkal.errors import shortened
from fkal.paths import at_home

__all__ = ["CorruptData", "CorruptImage", "Dataset", "MissingData", "load"]

SECOND_HALF_UP_TO = 10  # classes, of which an imbalance then cuts the second half; of more it cuts a random half


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labeled images to draw pool and validation from, and images to test on.

    `validation` has the indices into `train` of images that came as a validation set of their own; none is drawn then.
    `groups` has the number of the group of each training image; None: each is by itself.
    """

    name: str
    train: ImageSet
    test: ImageSet
    cut_rule: str
    validation: Int64[Tensor, " m"] | None = None
    groups: Int64[Tensor, " n"] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def channels(self) -> int:
        return self.train.shape[0]

    @property
    def digest(self) -> str:
        """Of both parts' content."""
        return bytes_digest([self.train.digest.encode(), self.test.digest.encode()])

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was left out, what the decoder changed and what is in two parts, a line each.

        Streamed files are read for it.
        """
        parts = [part for part in (self.train, self.test) if isinstance(part, Annotated)]
        return (*(note for part in parts for note in part.notes), *warnings_on_twins(self._files))

    @property
    def _files(self) -> dict[str, Part]:
        """By part; empty where images come from no files of their own."""
        if not isinstance(self.train, OfFiles) or not isinstance(self.test, OfFiles):
            return {}
        train, test = (Part(each.names, each.file_hashes) for each in (self.train, self.test))
        if not train.hashes or not test.hashes:
            return {}
        if self.validation is None:
            return {"training": train, "test": test}
        own = set(self.validation.tolist())
        rest = [index for index in range(len(train.hashes)) if index not in own]
        return {"training": train.of(rest), "validation": train.of(sorted(own)), "test": test}


def load(config: DataConfig, *, device: torch.device | str = "cpu", download: bool = True) -> Dataset:
    """The images of a dataset, with their labels.

    Args:
        config: Which dataset, where it is and how it is read.
        device: Where images that fit in memory are kept.
        download: Whether to download what is absent, where that is possible.

    Returns:
        The training part, from which pool and validation set are drawn, and the test part.

    Raises:
        MissingData: Files are absent; the message says which and where they come from.
        CorruptData: A file is not what its name says.
        ValueError: There is no dataset of this name, or a setting does not fit its images.

    Example:
        >>> digits = load(DataConfig(name="digits"))
        >>> digits.train.shape, len(digits.classes)
        ((1, 8, 8), 10)
    """
    entry = entry_of(config.name)
    config = _located(replace(config, mean=config.mean or entry.mean, std=config.std or entry.std))
    try:
        parts = entry.load(config, download=download)
    except IncompleteData:
        raise
    except MissingData as error:
        raise MissingData(_missing(config, entry, str(error))) from error
    except OSError as error:
        raise MissingData(_missing(config, entry, error.strerror or str(error))) from error
    train, test = parts[:2]
    _refuse_unfit(config, train, test)
    for part in (train, test):
        if isinstance(part, TensorImages):
            part.to(device)
    validation = parts.validation if isinstance(parts, PartsWithValidation) else None
    return Dataset(
        config.name,
        train,
        test,
        entry.cut_rule or _cut_rule(len(train.classes)),
        validation,
        groups=None if config.groups is None else _groups(config.name, config.groups, train, test),
    )


def _groups(name: str, pattern: str, train: ImageSet, test: ImageSet) -> Int64[Tensor, " n"]:
    """The group of each training image. Raises ValueError where it is not known, or test images are of it, too."""
    if not has_captures(pattern):
        raise ValueError(
            f"groups: {shortened(pattern)}: without captures it names a manifest's column, and dataset {name} has no "
            "manifest; give a regular expression on the images' paths with captures, say ([^/]+)_[^/]*$"
        )
    groups, known = group_numbers(train.names, pattern)
    refuse_shared(known, test.names, pattern)
    return groups


def _located(config: DataConfig) -> DataConfig:
    """With each path found and whole; own images are looked for as typed, then below the data root."""
    require_folder(config)
    root = str(at_home(config.root))
    if config.folder is None:
        return replace(config, root=root)
    folder = _tree("folder", config.folder, root)
    validation = None if config.validation is None else _tree("validation", config.validation, root)
    return replace(config, root=".", folder=folder, validation=validation)


def _tree(field: str, path: str, root: str) -> str:
    return str(tree_at(root, str(at_home(path)), field))


def _cut_rule(n_classes: int) -> CutRule:
    return "second_half" if n_classes <= SECOND_HALF_UP_TO else "random_half"


def _refuse_unfit(config: DataConfig, train: ImageSet, test: ImageSet) -> None:
    """What no experiment could be made of, whichever format it was read from."""
    where = f"dataset {config.name} under {printable(config.embeddings or config.folder or config.root)}"
    if not len(train) or not len(test):
        raise CorruptData(f"{where}: {len(train)} training and {len(test)} test images; give both parts images")
    if tuple(train.classes) != tuple(test.classes):
        raise CorruptData(f"{where}: its parts have different classes; give both parts the same ones")
    if len(train.classes) < 2:
        raise CorruptData(
            f"{where}: {train.classes[0]!r} is its only class, and there is nothing to tell apart; "
            "give it two classes or more"
        )
    if tuple(train.shape) != tuple(test.shape):
        shapes = " and ".join("x".join(map(str, part.shape)) for part in (train, test))
        raise CorruptData(
            f"{where}: training and test images differ (channels x height x width: {shapes}); "
            "give both parts one size, or set data.image_size"
        )


def _missing(config: DataConfig, entry: DatasetEntry, reason: str) -> str:
    if config.name == EMBEDDINGS:
        return f"{reason}; make it from your own model, or give --embeddings the path of a file that is there"
    root = Path(config.root)
    needs = [need.replace("FOLDER", config.folder or "") for need in entry.needs]
    absent = [need for need in needs if not _exists(root / need)]
    packed = [f"{need}.gz" for need in absent if _exists(root / f"{need}.gz")]
    unpack = f"; {', '.join(packed)} is there: unpack it (gunzip), or remove it if it is cut off" if packed else ""
    return (
        f"dataset {config.name} is not whole under {printable(config.folder or root)} ({reason}); "
        f"put there: {printable(', '.join(absent or needs))}, from {entry.origin}{unpack}"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for the file system
        return False
