"""How the name of a dataset becomes images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fkal.data.digest import bytes_digest
from fkal.data.errors import CorruptData, CorruptImage, MissingData
from fkal.data.images import ImageSet, TensorImages
from fkal.data.registry import CutRule, DatasetEntry, entry_of
from fkal.data.settings import DataConfig

__all__ = ["CorruptData", "CorruptImage", "Dataset", "MissingData", "load"]

SECOND_HALF_UP_TO = 10  # classes, of which an imbalance then cuts the second half; of more it cuts a random half


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labeled images to draw pool and validation from, and images to test on."""

    name: str
    train: ImageSet
    test: ImageSet
    cut_rule: str

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


def load(config: DataConfig, *, device: torch.device | str = "cpu", download: bool = True) -> Dataset:
    """The dataset of that name from config.root; what is absent is downloaded where that is possible."""
    entry = entry_of(config.name)
    config = replace(
        config,
        root=str(Path(config.root).expanduser()),
        folder=config.folder and str(Path(config.folder).expanduser()),
        mean=config.mean or entry.mean,
        std=config.std or entry.std,
    )
    try:
        train, test = entry.load(config, download=download)
    except MissingData as error:
        raise MissingData(_missing(config, entry, str(error))) from error
    for part in (train, test):
        if isinstance(part, TensorImages):
            part.to(device)
    return Dataset(config.name, train, test, entry.cut_rule or _cut_rule(len(train.classes)))


def _cut_rule(n_classes: int) -> CutRule:
    return "second_half" if n_classes <= SECOND_HALF_UP_TO else "random_half"


def _missing(config: DataConfig, entry: DatasetEntry, reason: str) -> str:
    root = Path(config.root)
    needs = [need.replace("FOLDER", config.folder or "") for need in entry.needs]
    absent = [need for need in needs if not (root / need).exists()]
    return (
        f"dataset {config.name} is not whole under {root} ({reason}); "
        f"put there: {', '.join(absent)}, from {entry.origin}"
    )
