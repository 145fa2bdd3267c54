"""The images of a project as a dataset: pool and validation images are its training part, in the order of the lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.config.schema import Config
from fkal.data.datasets import Dataset
from fkal.data.digest import files_digest
from fkal.data.images import UNLABELED, ImageSet
from fkal.data.listed import ListedFiles, fit_in_memory, listed_images
from fkal.data.registry import IMAGENET_MEAN, IMAGENET_STD
from fkal.errors import ConfigError, did_you_mean, shortened
from fkal.labeling.checking import checked_listing, held_out
from fkal.labeling.file_facts import FileFacts
from fkal.labeling.listing import Listing, empty_listing
from fkal.labeling.project import PARTS, Part, Project
from fkal.notify import Display

DEFAULT_SIZE = 64
"""Pixels per side where neither the settings nor the pool say."""


@dataclass(frozen=True, eq=False)
class ProjectDataset(Dataset):
    """Index i of `train` is row i of pool.parquet; behind the pool are the rows of validation.parquet.

    `pool` has the indices that can be asked for and trained on: their file can be read, and neither they nor their
    group are validated or tested on. `validation` has the validation images whose file can be read, `tested` the
    indices into `test`. A label is `UNLABELED` where nobody gave one.
    """

    pool: Int64[Tensor, " p"] = field(default_factory=lambda: _none())
    tested: Int64[Tensor, " t"] = field(default_factory=lambda: _none())
    pool_listing: Listing | None = None
    validation_listing: Listing | None = None


def load_project(
    project: Project,
    config: Config,
    display: Display,
    *,
    labels: Mapping[str, str] | None = None,
    verify: bool = False,
) -> ProjectDataset:
    """The images of a project as they are now; `labels` has the class of labeled pool images by digest.

    With `verify` each file is read again. Raises ConfigError for a class that classes.txt does not name.
    """
    listings, usable = _checked(project, config, display, verify=verify)
    pool, validation, test = (listings[part] for part in PARTS)
    classes = project.classes
    size = config.data.image_size or median_side(pool)
    pool_labels = _numbers([(labels or {}).get(digest or "") for digest in pool.digests], classes, "labels.csv")
    validation_labels = _numbers(validation.labels, classes, "validation.parquet")
    validation_rows = usable["validation"] + len(pool)
    streamed = not fit_in_memory(len(pool) + len(validation) + len(test), size)
    train = _images(
        project,
        config,
        {"pool": pool, "validation": validation},
        torch.cat([pool_labels, validation_labels]),
        torch.cat([usable["pool"], validation_rows]),
        size=size,
        streamed=streamed,
    )
    test_labels = _numbers(test.labels, classes, "test.parquet")
    return ProjectDataset(
        name=project.name,
        train=train,
        test=_images(project, config, {"test": test}, test_labels, usable["test"], size=size, streamed=streamed),
        cut_rule="second_half",
        validation=validation_rows,
        groups=_group_numbers([*pool.groups, *validation.groups]),
        pool=usable["pool"][~torch.tensor(held_out(pool, validation, test), dtype=torch.bool)[usable["pool"]]],
        tested=usable["test"],
        pool_listing=pool,
        validation_listing=validation,
    )


def validation_dataset(project: Project, config: Config) -> Dataset:
    """The validation images alone, as a training part; the files are read as they are listed."""
    validation = project.validation
    rows = torch.arange(len(validation))
    labels = _numbers(validation.labels, project.classes, "validation.parquet")
    size = config.data.image_size or median_side(validation)
    streamed = not fit_in_memory(len(validation), size)
    empty = empty_listing(labeled=True)
    return Dataset(
        name=project.name,
        train=_images(project, config, {"validation": validation}, labels, rows, size=size, streamed=streamed),
        test=_images(project, config, {"test": empty}, labels[:0], rows[:0], size=size, streamed=streamed),
        cut_rule="second_half",
        validation=rows,
        groups=_group_numbers(list(validation.groups)),
    )


def _checked(
    project: Project, config: Config, display: Display, *, verify: bool
) -> tuple[dict[Part, Listing], dict[Part, Int64[Tensor, " u"]]]:
    """The lists as they are now, and which of their rows can be used."""
    listings: dict[Part, Listing] = {}
    usable: dict[Part, Int64[Tensor, " u"]] = {}
    with FileFacts(project.facts_path) as facts, display.one("images") as shown:
        for part in PARTS:
            listings[part], flags = checked_listing(
                project, part, facts, workers=config.data.workers, shown=shown, say=display.notify, every=verify
            )
            usable[part] = torch.frombuffer(flags, dtype=torch.uint8).nonzero().flatten() if flags else _none()
            lost = len(listings[part]) - len(usable[part])
            if lost:
                display.notify(f"{lost:,} {part} images cannot be used now; {project.quarantine_path} says why")
    return listings, usable


def _none() -> Int64[Tensor, " 0"]:
    return torch.empty(0, dtype=torch.int64)


def _group_numbers(groups: Sequence[str | None]) -> Int64[Tensor, " n"] | None:
    """The number of the group of each image; an image without one is a group by itself."""
    if all(group is None for group in groups):
        return None
    numbers: dict[object, int] = {}
    keys = (row if group is None else group for row, group in enumerate(groups))
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def median_side(pool: Listing) -> int:
    """The median of the shorter sides, of those that are known."""
    sides = [min(image.width, image.height) for image in pool if image.width and image.height]
    return median_low(sides) if sides else DEFAULT_SIZE


def _images(
    project: Project,
    config: Config,
    parts: Mapping[Part, Listing],
    labels: Int64[Tensor, " n"],
    available: Int64[Tensor, " k"],
    *,
    size: int,
    streamed: bool,
) -> ImageSet:
    """The digest leaves the labels of the pool out, since each round brings some."""
    bases: list[str] = []
    roots: list[int] = []
    names: list[str] = []
    hashes: list[bytes] = []
    n_unlabeled = sum(len(listing) for listing in parts.values() if not listing.is_labeled)
    for part, listing in parts.items():
        first = len(bases)
        bases += [project.source(part, root) for root in range(len(project.settings.sources(part)))]
        roots += [first + int(root) for root in listing.roots]
        names += listing.paths
        hashes += [bytes.fromhex(digest or "") for digest in listing.digests]
    known = torch.cat([torch.full((n_unlabeled,), UNLABELED), labels[n_unlabeled:]])
    digest = files_digest(hashes, (3, size, size), known, project.classes, interpolation=config.data.resampling)
    return listed_images(
        ListedFiles(tuple(bases), roots, names, labels, project.classes),
        available,
        size=size,
        mean=config.data.mean or IMAGENET_MEAN,
        std=config.data.std or IMAGENET_STD,
        workers=config.data.workers,
        digest=digest,
        hashes=hashes,
        interpolation=config.data.resampling,
        decoding=config.data.decoding,
        streamed=streamed,
    )


def _numbers(names: Sequence[str | None], classes: tuple[str, ...], where: str) -> Int64[Tensor, " n"]:
    number = {name: label for label, name in enumerate(classes)}
    for name in names:
        if name is not None and name not in number:
            raise ConfigError(
                f"{where}: class {shortened(name)} is not in classes.txt; {did_you_mean(name, classes)}add it there as "
                "a line at the end, or correct the label"
            )
    return torch.tensor([UNLABELED if name is None else number[name] for name in names], dtype=torch.int64)
