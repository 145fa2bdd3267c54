"""Settings of a dataset and of its bias; plain dataclasses, so that loading them costs no heavy import."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from fkal.errors import shortened
from fkal.identifiers import dataset_name

LARGEST = 4096
MOST_VALIDATION_IMAGES = 10_000_000
"""Of each class."""
MOST_WORKERS = 1024
MOST_CHANNELS = 16
LARGEST_RATIO = 1e9
LAST_CLASS = 1_000_000
EMBEDDINGS = "embeddings"
"""The dataset of own embeddings."""
OF_IMAGES = ("image_size", "interpolation", "mean", "std", "decoding")
"""Settings of images, which own embeddings lack."""
OWN_VALIDATION = "a folder"
"""What digests and recipes hold of `data.validation`; the digest of the data covers its content."""
MOST_POOL_IMAGES = 1_000_000_000
"""Of each class."""
RANDOM_HALF = "random_half"
BIAS_KINDS = ("imbalance", "long_tail", "by_hand", "none")


Interpolation = Literal["bilinear", "bicubic", "nearest"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "nearest")

Decoding = Literal["draft", "gpu"]


@dataclass(frozen=True)
class DataConfig:
    """Which images, from where, how large, and how many of each class validate."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str = "digits"
    """The dataset: a name of `fkal list datasets`, or `folder` for a tree of images."""
    root: str = "data"
    """Folder that holds the datasets."""
    folder: str | None = None
    """The tree of `name: folder`, {train,test}/CLASS/*: a path as typed, else below `root`."""
    image_size: int | None = None
    """Pixels per side; null: the dataset's own."""
    interpolation: Interpolation | None = None
    """How images are scaled: `bilinear`, `bicubic` or `nearest`; null: as the pretrained model was made for, else
    bilinear."""
    decoding: Decoding | None = None
    """How JPEG files that do not fit into memory are decoded, but for random training views: `draft`, at the smallest
    of 1/2, 1/4 and 1/8 of their size that is enough; `gpu`, by the GPU that computes; null: whole, on the CPU. Pixels
    differ a little."""
    validation_per_class: int = 30
    """Validation images per class."""
    rare: tuple[str | int, ...] | None = None
    """Names of the rare classes; null: those that the bias makes rare."""
    mean: tuple[float, ...] | None = None
    """Mean of pixels in [0, 1], one value per channel; null: the dataset's own."""
    std: tuple[float, ...] | None = None
    """Standard deviation of pixels, one value per channel; null: the dataset's own."""
    workers: int = 2
    """Processes that decode image files; 0: this process."""
    validation: str | None = None
    """An own validation tree CLASS/* of `name: folder`; null: drawn from the training part."""
    embeddings: str | None = None
    """The file of `name: embeddings`, .npz or .parquet."""
    per_class: int | None = None
    """At most so many images of each class enter the pool, before the bias; null: all."""
    groups: str | None = None
    """What images belong together (a track, a patient) and are never split: a regular expression on the path below
    the dataset's folder, whose captures are the key, or the name of a manifest's column; null: each by itself."""

    @property
    def resampling(self) -> Interpolation:
        """How files are scaled where no pretrained model asks for anything else."""
        return self.interpolation or "bilinear"

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name: '': it names a dataset; say, for example, digits")
        dataset_name(self.name, "name")
        if not self.root:
            raise ValueError("root: '': it is the folder that holds datasets; say '.' for this one")
        for field, path in (("root", self.root), ("folder", self.folder or ""), ("validation", self.validation or "")):
            if "\0" in path:
                raise ValueError(f"{field}: {path!r}: no path has a zero byte; give the path of a folder")
        _refuse_unless_folder_fits(self.name, "folder", self.folder)
        _refuse_unless_folder_fits(self.name, "validation", self.validation)
        if self.name != EMBEDDINGS and self.embeddings is not None:
            raise ValueError(
                f"embeddings: {shortened(self.embeddings)}: only name={EMBEDDINGS} reads them, not name={self.name}; "
                f"set name={EMBEDDINGS}"
            )
        _refuse_below("validation_per_class", self.validation_per_class, 1)
        _refuse_above("validation_per_class", self.validation_per_class, MOST_VALIDATION_IMAGES)
        _refuse_below("workers", self.workers, 0)
        _refuse_above("workers", self.workers, MOST_WORKERS)
        if self.per_class is not None:
            _refuse_below("per_class", self.per_class, 1)
            _refuse_above("per_class", self.per_class, MOST_POOL_IMAGES)
        _refuse_unless_groups_fit(self.groups)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) > MOST_CHANNELS:
                raise ValueError(f"{key}: {len(values)} values; give one for each channel, at most {MOST_CHANNELS}")
        if self.image_size is not None:
            _refuse_below("image_size", self.image_size, 1)
            if self.image_size > LARGEST:
                raise ValueError(f"image_size: {self.image_size}: too large; give {LARGEST} pixels or less")
        _refuse_unless_rare_fits(self.rare)
        if self.std is not None and not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"std: {shortened(list(self.std))}: pixels are divided by it; give positive numbers")
        if self.mean is not None and not all(math.isfinite(m) for m in self.mean):
            raise ValueError(f"mean: {shortened(list(self.mean))}: it is subtracted from pixels; give finite numbers")


@dataclass(frozen=True)
class BiasConfig:
    """How the pool's class distribution is bent: by an imbalance ratio, a long tail, by hand, or not at all."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    kind: Literal["imbalance", "long_tail", "by_hand", "none"] = "imbalance"
    """How the pool is made biased."""
    ratio: float = 1.0
    """How many times rarer the cut classes are; of a long tail, the largest class to the smallest."""
    cut: tuple[int, ...] | Literal["random_half"] | None = None
    """Classes, counted from 0, that lose images; `random_half`: half of them, drawn by the seed; null: the dataset's
    rule."""
    fractions: dict[int, float] | None = None
    """The part of each class that stays, for `kind: by_hand`."""

    def __post_init__(self) -> None:
        if self.kind not in BIAS_KINDS:
            raise ValueError(f"kind: {self.kind!r}: not a bias; choose imbalance, long_tail, by_hand or none")
        if not (math.isfinite(self.ratio) and self.ratio >= 1):
            raise ValueError(
                f"ratio: {self.ratio}: it is (images of kept classes) : (images of cut ones); give 1 or more"
            )
        _refuse_above("ratio", self.ratio, LARGEST_RATIO)
        _refuse_unless_fractions_fit(self.kind, self.ratio, self.fractions)
        _refuse_unless_cut_fits(self.kind, self.cut)


def _refuse_below(field: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{field}: {value}: too small; give {least} or more")


def _refuse_above(field: str, value: int | float, most: int | float) -> None:
    if value > most:
        raise ValueError(f"{field}: {value}: too large; give {most:,.0f} or less")


def has_captures(groups: str) -> bool:
    """Whether `data.groups` is a regular expression; without captures it names a manifest's column."""
    return re.compile(groups).groups > 0


def _refuse_unless_groups_fit(groups: str | None) -> None:
    if groups is None:
        return
    if not groups.strip():
        raise ValueError(
            "groups: '': give a regular expression with captures, say ([^/]+)_[^/]*$, or leave groups unset"
        )
    try:
        re.compile(groups)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"groups: {shortened(groups)}: not a regular expression ({error}); "
            "give one with captures, say ([^/]+)_[^/]*$"
        ) from error


def require_folder(config: DataConfig) -> None:
    """Raises ValueError where own images are to be read and nobody said which."""
    if config.name == EMBEDDINGS and config.embeddings is None:
        raise ValueError("embeddings: not set: name=embeddings reads a file; give --embeddings FILE.npz or .parquet")
    if config.name == "folder" and config.folder is None:
        raise ValueError("folder: not set: name=folder reads an image tree; give its path, say --set data.folder=PATH")


def _refuse_unless_folder_fits(name: str, field: str, path: str | None) -> None:
    if path == "":
        raise ValueError(f"{field}: '': it is the path of an image tree; give one, or '.' for this folder")
    if name != "folder" and path is not None:
        raise ValueError(f"{field}: {shortened(path)}: only name=folder reads it, not name={name}; set name=folder")


def _refuse_unless_rare_fits(rare: tuple[str | int, ...] | None) -> None:
    if rare is None:
        return
    names = [str(name) for name in rare]
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(f"rare: {shortened(list(rare))}: give names of classes, each once, or leave rare unset")


def _refuse_unless_fractions_fit(kind: str, ratio: float, fractions: dict[int, float] | None) -> None:
    if kind == "by_hand" and not fractions:
        raise ValueError("fractions: not set: kind=by_hand needs them; give, for example, {5: 0.1, 6: 0.1}")
    if kind == "none" and ratio != 1:
        raise ValueError(f"ratio: {ratio}: kind=none leaves the pool as it is; set bias.ratio=1 or bias.kind=imbalance")
    if kind == "by_hand" and ratio != 1:
        raise ValueError(f"ratio: {ratio}: kind=by_hand goes by fractions alone; set bias.ratio=1")
    if kind != "by_hand" and fractions is not None:
        raise ValueError(f"fractions: {shortened(fractions)}: only kind=by_hand reads them; set kind=by_hand")
    for label, fraction in (fractions or {}).items():
        if label < 0:
            raise ValueError(f"fractions: class {label}: classes count from 0; name them so")
        _refuse_above("fractions: class", label, LAST_CLASS)
        if not 0 <= fraction <= 1:
            raise ValueError(f"fractions: {fraction} of class {label}: it is the part that stays; give 0 to 1")


def _refuse_unless_cut_fits(kind: str, cut: tuple[int, ...] | str | None) -> None:
    if cut is None:
        return
    shown = cut if isinstance(cut, str) else list(cut)
    if kind != "imbalance":
        raise ValueError(f"cut: {shortened(shown)}: only kind=imbalance cuts classes; leave cut unset")
    if isinstance(cut, str):
        if cut != RANDOM_HALF:
            raise ValueError(f"cut: {shortened(cut)}: give classes, say [5, 6], or {RANDOM_HALF}")
        return
    if not cut:
        raise ValueError("cut: []: an imbalance needs classes to cut; list them or leave cut unset")
    if len(set(cut)) < len(cut) or min(cut) < 0:
        raise ValueError(f"cut: {shortened(list(cut))}: classes count from 0, each named once; list them so")
    _refuse_above("cut: class", max(cut), LAST_CLASS)
