"""The registry of datasets, and how a name becomes images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch

from fkal.data import published, trees
from fkal.data.config import DataConfig
from fkal.data.digest import bytes_digest
from fkal.data.errors import CorruptData, CorruptImage, MissingData
from fkal.data.images import ImageSet, TensorImages
from fkal.errors import did_you_mean

__all__ = ["DATASETS", "CorruptData", "CorruptImage", "Dataset", "DatasetEntry", "MissingData", "entry_of", "load"]

CutRule = Literal["second_half", "random_half"]
ENTRY_POINTS = "fkal.datasets"
FEW_CLASSES = 10  # up to so many, an imbalance cuts the second half of them; of more, a random half


@runtime_checkable
class Loader(Protocol):
    """Reads the train and the test part; what is absent raises MissingData with the reason alone."""

    def __call__(self, config: DataConfig, *, download: bool) -> tuple[ImageSet, ImageSet]: ...


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset: how it is read, what it is, and which files it wants."""

    load: Loader
    about: str
    shape: tuple[int, int, int] | None  # (channels, height, width) as published; None: the files decide
    mean: tuple[float, ...] | None  # of pixels in [0, 1]; None: by the number of channels
    std: tuple[float, ...] | None
    needs: tuple[str, ...]  # files under the root
    origin: str
    cut_rule: CutRule | None = None  # None: by the number of classes


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


def entry_of(name: str) -> DatasetEntry:
    """From the registry, or from a package that offers it as an entry point of fkal.datasets."""
    if name in DATASETS:
        return DATASETS[name]
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        raise ValueError(_unknown(name, [*DATASETS, *offered]))
    entry = offered[name].load()
    if not isinstance(entry, DatasetEntry):
        raise ValueError(f"dataset {name!r}: {offered[name].value} is no DatasetEntry; make the entry point name one")
    return entry


def _cut_rule(n_classes: int) -> CutRule:
    return "second_half" if n_classes <= FEW_CLASSES else "random_half"


def _unknown(name: str, known: list[str]) -> str:
    return f"dataset {name!r}: not known; {did_you_mean(name, known)}choose one of {', '.join(sorted(known))}"


def _missing(config: DataConfig, entry: DatasetEntry, reason: str) -> str:
    root = Path(config.root)
    needs = [need.replace("FOLDER", config.folder or "") for need in entry.needs]
    absent = [need for need in needs if not (root / need).exists()]
    return (
        f"dataset {config.name} is not whole under {root} ({reason}); "
        f"put there: {', '.join(absent)}, from {entry.origin}"
    )


IMAGENET_NORMALISATION = {"mean": trees.IMAGENET_MEAN, "std": trees.IMAGENET_STD}

DATASETS: dict[str, DatasetEntry] = {
    "digits": DatasetEntry(
        load=published.digits,
        about="1,797 handwritten digits of 8x8, part of scikit-learn",
        shape=(1, 8, 8),
        mean=(0.305,),
        std=(0.376,),
        needs=(),
        origin="scikit-learn",
        cut_rule="second_half",
    ),
    "mnist": DatasetEntry(
        load=published.mnist,
        about="70,000 handwritten digits of 28x28, grey",
        shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        needs=tuple(str(path) for path in published.mnist_files(Path())),
        origin="https://ossci-datasets.s3.amazonaws.com/mnist/ (unpacked)",
        cut_rule="second_half",
    ),
    "svhn": DatasetEntry(
        load=published.svhn,
        about="630,420 house-number digits of 32x32, colour; train and extra together train",
        shape=(3, 32, 32),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        needs=tuple(f"svhn/{published.svhn_file(part)}" for part in ("train", "extra", "test")),
        origin="http://ufldl.stanford.edu/housenumbers/",
        cut_rule="second_half",
    ),
    "cifar10": DatasetEntry(
        load=trees.cifar10,
        about="60,000 photographs of 10 things, 32x32, colour",
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        needs=("cifar-10-batches-py/ or cifar10/{train,test}/CLASS/*.jpg or cifar10-imagefolder.tar",),
        origin="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz (unpacked)",
        cut_rule="second_half",
    ),
    "tinyimagenet": DatasetEntry(
        load=trees.tinyimagenet,
        about="25,000 photographs of 100 classes of Tiny ImageNet, 64x64, colour; val tests",
        shape=(3, 64, 64),
        **IMAGENET_NORMALISATION,
        needs=("tinyimagenet100/{train,val}/WNID/*.JPEG or tinyimagenet100-imagefolder.tar",),
        origin="http://cs231n.stanford.edu/tiny-imagenet-200.zip (100 of its classes)",
        cut_rule="random_half",
    ),
    "imagenet": DatasetEntry(
        load=trees.imagenet,
        about="1.28 million photographs of 1,000 classes, streamed at 224x224; val tests",
        shape=(3, 224, 224),
        **IMAGENET_NORMALISATION,
        needs=("imagenet/train/WNID/*.JPEG", "imagenet/val/WNID/*.JPEG"),
        origin="https://image-net.org (ILSVRC 2012; registration needed)",
        cut_rule="random_half",
    ),
    "folder": DatasetEntry(
        load=trees.folder,
        about="your own images: train/ and test/ (or val/), each with one folder a class",
        shape=None,
        mean=None,
        std=None,
        needs=("FOLDER/train/CLASS/*", "FOLDER/test/CLASS/* (or val)"),
        origin="your own images",
    ),
}
