"""The registry of datasets: what is known of each without reading it. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from fkal.data.settings import DataConfig
from fkal.errors import did_you_mean
from fkal.object_references import offered, resolved

if TYPE_CHECKING:
    from torch import Tensor

    from fkal.data.images import ImageSet
    from fkal.data.sources import SourceFiles

CutRule = Literal["second_half", "random_half"]
ENTRY_POINTS = "fkal.datasets"

DIGIT_NAMES = tuple("0123456789")
MNIST_KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")
MNIST_FILES = {"train": "train", "test": "t10k"}
GTSRB_TRAINING, GTSRB_TEST, GTSRB_LABELS = "GTSRB/Training", "GTSRB/Final_Test/Images", "GT-final_test.csv"
GTSRB_NAMES = (
    "speed_limit_20",
    "speed_limit_30",
    "speed_limit_50",
    "speed_limit_60",
    "speed_limit_70",
    "speed_limit_80",
    "end_of_speed_limit_80",
    "speed_limit_100",
    "speed_limit_120",
    "no_passing",
    "no_passing_over_3_5_t",
    "right_of_way_next_intersection",
    "priority_road",
    "yield",
    "stop",
    "no_vehicles",
    "no_vehicles_over_3_5_t",
    "no_entry",
    "general_caution",
    "curve_left",
    "curve_right",
    "double_curve",
    "bumpy_road",
    "slippery_road",
    "road_narrows_right",
    "road_work",
    "traffic_signals",
    "pedestrians",
    "children_crossing",
    "bicycles_crossing",
    "ice_or_snow",
    "wild_animals",
    "end_of_all_limits",
    "turn_right_ahead",
    "turn_left_ahead",
    "ahead_only",
    "straight_or_right",
    "straight_or_left",
    "keep_right",
    "keep_left",
    "roundabout",
    "end_of_no_passing",
    "end_of_no_passing_over_3_5_t",
)
"""The classes in the publishers' order, who number them 0 to 42."""
CIFAR10_BATCHES = "cifar-10-batches-py"
NUMBERED = frozenset({"fkal.data.published:digits", "fkal.data.published:mnist", "fkal.data.published:svhn"})
"""Loaders of images that come in arrays and not in files of their own."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PartsWithValidation(NamedTuple):
    """`validation` has the indices into `train` of images that were given to validate on."""

    train: ImageSet
    test: ImageSet
    validation: Tensor


@runtime_checkable
class Loader(Protocol):
    """Reads the train and the test part; what is absent raises MissingData with the reason alone."""

    def __call__(self, config: DataConfig, *, download: bool) -> tuple[ImageSet, ImageSet] | PartsWithValidation: ...


@runtime_checkable
class SourceLister(Protocol):
    """Names the files that a dataset is read from; what is absent raises MissingData or is named and not there."""

    def __call__(self, config: DataConfig) -> SourceFiles: ...


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset: how it is read, what it is, and which files it wants."""

    loader: str | Loader  # or a reference to one, `package.module:name`
    about: str
    shape: tuple[int, int, int] | None  # (channels, height, width) as published; None: the files decide
    mean: tuple[float, ...] | None  # of pixels in [0, 1]; None: by the number of channels
    std: tuple[float, ...] | None
    needs: tuple[str, ...]  # files under the root
    origin: str
    cut_rule: CutRule | None = None  # None: by the number of classes
    classes: tuple[str, ...] = ()  # as the loader names them; (): the files decide
    sources: str | SourceLister | None = None  # or a reference to one; None: changed images are not noticed ahead

    @property
    def load(self) -> Loader:
        """The loader; the module of a reference is imported here."""
        function: Loader = resolved(self.loader) if isinstance(self.loader, str) else self.loader
        return function

    @property
    def numbered(self) -> bool:
        """Whether its images have numbers and no files of their own."""
        return self.loader in NUMBERED

    @property
    def list_sources(self) -> SourceLister | None:
        """What names its files; the module of a reference is imported here, and no torch with it."""
        lister: SourceLister | None = resolved(self.sources) if isinstance(self.sources, str) else self.sources
        return lister


def mnist_files(root: Path) -> list[Path]:
    """The four files of MNIST."""
    return [root / "MNIST" / "raw" / f"{word}-{kind}" for word in MNIST_FILES.values() for kind in MNIST_KINDS]


def gtsrb_folder(root: Path) -> Path:
    """torchvision's folder of GTSRB."""
    return root / "gtsrb"


def has_published_gtsrb(root: Path) -> bool:
    """Whether torchvision's layout is in use, or is all that root/gtsrb could become."""
    folder = gtsrb_folder(root)
    return (folder / "GTSRB").exists() or (folder.is_dir() and not (folder / "train").is_dir())


def svhn_file(part: str) -> str:
    """The published name."""
    return f"{part}_32x32.mat"


def svhn_root(root: Path) -> Path:
    """`root` where torchvision's own layout is in use, else root/svhn."""
    return root if (root / svhn_file("train")).exists() else root / "svhn"


def entry_of(name: str) -> DatasetEntry:
    """From the registry, or from a package that offers it as an entry point of fkal.datasets."""
    if name in DATASETS:
        return DATASETS[name]
    others = offered(ENTRY_POINTS)
    if name not in others:
        raise ValueError(_unknown(name, [*DATASETS, *others]))
    entry = others[name].load()
    if not isinstance(entry, DatasetEntry):
        raise ValueError(f"dataset {name!r}: {others[name].value} is no DatasetEntry; make the entry point name one")
    return entry


def _unknown(name: str, known: list[str]) -> str:
    return f"dataset {name!r}: not known; {did_you_mean(name, known)}choose one of {', '.join(sorted(known))}"


DATASETS: Mapping[str, DatasetEntry] = MappingProxyType(
    {
        "digits": DatasetEntry(
            loader="fkal.data.published:digits",
            sources="fkal.data.sources:digits",
            about="1,797 handwritten digits of 8x8, part of scikit-learn",
            shape=(1, 8, 8),
            mean=(0.305,),
            std=(0.376,),
            needs=(),
            origin="scikit-learn",
            cut_rule="second_half",
            classes=DIGIT_NAMES,
        ),
        "mnist": DatasetEntry(
            loader="fkal.data.published:mnist",
            sources="fkal.data.sources:mnist",
            about="70,000 handwritten digits of 28x28, grey",
            shape=(1, 28, 28),
            mean=(0.1307,),
            std=(0.3081,),
            needs=tuple(str(path) for path in mnist_files(Path())),
            origin="https://ossci-datasets.s3.amazonaws.com/mnist/ (unpacked)",
            cut_rule="second_half",
            classes=DIGIT_NAMES,
        ),
        "svhn": DatasetEntry(
            loader="fkal.data.published:svhn",
            sources="fkal.data.sources:svhn",
            about="630,420 house-number digits of 32x32, colour; train and extra together train",
            shape=(3, 32, 32),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            needs=tuple(f"svhn/{svhn_file(part)}" for part in ("train", "extra", "test")),
            origin="http://ufldl.stanford.edu/housenumbers/",
            cut_rule="second_half",
            classes=DIGIT_NAMES,
        ),
        "cifar10": DatasetEntry(
            loader="fkal.data.trees:cifar10",
            sources="fkal.data.sources:cifar10",
            about="60,000 photographs of 10 things, 32x32, colour",
            shape=(3, 32, 32),
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            needs=("cifar-10-batches-py/ or cifar10/{train,test}/CLASS/*.jpg or cifar10-imagefolder.tar",),
            origin="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz (unpacked)",
            cut_rule="second_half",
        ),
        "gtsrb": DatasetEntry(
            loader="fkal.data.trees:gtsrb",
            sources="fkal.data.sources:gtsrb",
            about="51,839 photographs of 43 German traffic signs, 32x32, colour; unequal classes, in tracks of 30",
            shape=(3, 32, 32),
            mean=(0.3394, 0.3116, 0.3205),
            std=(0.2750, 0.2643, 0.2706),
            needs=("gtsrb/GTSRB/ or gtsrb/{train,test}/CLASS/TRACK_FRAME.jpg or gtsrb-imagefolder.tar",),
            origin="https://benchmark.ini.rub.de (GTSRB-Training_fixed.zip and GTSRB_Final_Test_*.zip, unpacked)",
            classes=GTSRB_NAMES,
        ),
        "tinyimagenet": DatasetEntry(
            loader="fkal.data.trees:tinyimagenet",
            sources="fkal.data.sources:tinyimagenet",
            about="25,000 photographs of 100 classes of Tiny ImageNet, 64x64, colour; val tests",
            shape=(3, 64, 64),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            needs=("tinyimagenet100/{train,val}/WNID/*.JPEG or tinyimagenet100-imagefolder.tar",),
            origin="http://cs231n.stanford.edu/tiny-imagenet-200.zip (100 of its classes)",
            cut_rule="random_half",
        ),
        "imagenet": DatasetEntry(
            loader="fkal.data.trees:imagenet",
            sources="fkal.data.sources:imagenet",
            about="1.28 million photographs of 1,000 classes, streamed at 224x224; val tests",
            shape=(3, 224, 224),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            needs=("imagenet/train/WNID/*.JPEG", "imagenet/val/WNID/*.JPEG"),
            origin="https://image-net.org (ILSVRC 2012; registration needed)",
            cut_rule="random_half",
        ),
        "embeddings": DatasetEntry(
            loader="fkal.data.vectors:embeddings",
            sources="fkal.data.sources:embeddings",
            about="your own embeddings in a file, --embeddings FILE: features, ids, labels and parts",
            shape=None,
            mean=None,
            std=None,
            needs=("FILE.npz or FILE.parquet",),
            origin="your own model",
        ),
        "folder": DatasetEntry(
            loader="fkal.data.trees:folder",
            sources="fkal.data.sources:folder",
            about="your own images: train/ and test/ (or val/), each with one folder a class",
            shape=None,
            mean=None,
            std=None,
            needs=("FOLDER/train/CLASS/*", "FOLDER/test/CLASS/* (or val)"),
            origin="your own images",
        ),
    }
)
