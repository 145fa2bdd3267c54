"""The files that a dataset is read from, and a digest of their bytes and names. Imports no torch, downloads nothing."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fkal.data.errors import CorruptData, MissingData
from fkal.data.file_digests import DIGEST_LENGTH, SETTLED_NS, FileDigests, stamp_of
from fkal.data.places import tree_at
from fkal.data.registry import (
    CIFAR10_BATCHES,
    GTSRB_LABELS,
    GTSRB_TEST,
    GTSRB_TRAINING,
    entry_of,
    gtsrb_folder,
    has_published_gtsrb,
    mnist_files,
    svhn_file,
    svhn_root,
)
from fkal.data.settings import DataConfig
from fkal.data.tree_files import class_folders, images_below
from fkal.paths import at_home

ABSENT = "absent"
"""In place of a digest: the images are not there yet, or cannot be read."""
OWN_VALIDATION = "own validation"
"""Before the names of the files of an own validation folder."""
UNKNOWN = "unknown"
"""In place of a digest: a plug-in's dataset does not say which files it reads."""
CIFAR10_FILES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta")
SVHN_FILES = tuple(svhn_file(part) for part in ("train", "extra", "test"))


class SourceFiles(NamedTuple):
    """Files by their names relative to `root`, and those of an own validation folder."""

    root: Path
    names: tuple[str, ...]
    validation: tuple[Path, tuple[str, ...]] | None = None


def source_digest(config: DataConfig, digests: FileDigests) -> str:
    """32 hexadecimal digits of the bytes and relative names of all files that the dataset is read from.

    `ABSENT` where files are missing or cannot be read: whoever loads the dataset says which, and why.
    """
    sources = entry_of(config.name).list_sources
    if sources is None:
        return UNKNOWN
    try:
        files = sources(replace(config, root=str(at_home(config.root))))
        by_name = dict(digests.of(config.name, files.root, files.names))
        if files.validation is not None:
            own = digests.of(f"{config.name} validation", *files.validation)
            by_name |= {f"{OWN_VALIDATION}/{name}": digest for name, digest in own.items()}
    except (MissingData, CorruptData, OSError):
        return ABSENT
    content = hashlib.sha256()
    for name in sorted(by_name):
        content.update(os.fsencode(name) + b"\0" + by_name[name].encode() + b"\n")
    return content.hexdigest()[:DIGEST_LENGTH]


def source_stamp(config: DataConfig) -> str:
    """Changes when a file that the dataset is read from changes; no file is read for it.

    Empty where the files are not known or not there.
    """
    return _stamped(config)[0]


def settled_stamp(config: DataConfig) -> str:
    """The same; empty, too, where a file was changed a moment ago, and could be changed again and keep its stamp."""
    stamp, changed = _stamped(config)
    return stamp if time.time_ns() - changed >= SETTLED_NS else ""


def _stamped(config: DataConfig) -> tuple[str, int]:
    """The stamp, and when the last of the files was changed, in nanoseconds."""
    sources = entry_of(config.name).list_sources
    if sources is None:
        return "", 0
    content, changed = hashlib.sha256(), 0
    try:
        files = sources(replace(config, root=str(at_home(config.root))))
        for root, names in ((files.root, files.names), *([files.validation] if files.validation else [])):
            for name in names:
                found = (root / name).stat()
                content.update(os.fsencode(root / name) + repr(stamp_of(found)).encode())
                changed = max(changed, found.st_ctime_ns)
    except (MissingData, CorruptData, OSError):
        return "", 0
    return content.hexdigest(), changed


def digits(config: DataConfig) -> SourceFiles:
    """The file that comes with scikit-learn, which is not imported for it."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingData("scikit-learn is not installed")
    return SourceFiles(Path(found.submodule_search_locations[0]) / "datasets" / "data", ("digits.csv.gz",))


def mnist(config: DataConfig) -> SourceFiles:
    """Four files."""
    return SourceFiles(Path(config.root), tuple(path.as_posix() for path in mnist_files(Path())))


def svhn(config: DataConfig) -> SourceFiles:
    """Three files, below `root/svhn` or `root`."""
    return SourceFiles(svhn_root(Path(config.root)), SVHN_FILES)


def cifar10(config: DataConfig) -> SourceFiles:
    """torchvision's batches, else a tree, else a tar of one: the order in which the loader looks for them."""
    root = Path(config.root)
    if (root / CIFAR10_BATCHES).exists():
        return SourceFiles(root / CIFAR10_BATCHES, CIFAR10_FILES)
    return _tree_or_tar(root, "cifar10", "test")


def gtsrb(config: DataConfig) -> SourceFiles:
    """torchvision's folder, else a tree, else a tar of one."""
    root = Path(config.root)
    if not has_published_gtsrb(root):
        return _tree_or_tar(root, "gtsrb", "test")
    folder, flawed = gtsrb_folder(root), list[tuple[str, str]]()
    test = images_below(folder / GTSRB_TEST, Counter(), flawed)
    if flawed:
        raise CorruptData(f"{flawed[0][0]}: {flawed[0][1]}")
    names = (*_images(folder, GTSRB_TRAINING), *(f"{GTSRB_TEST}/{name}" for name in test), GTSRB_LABELS)
    return SourceFiles(folder, names)


def tinyimagenet(config: DataConfig) -> SourceFiles:
    """A tree, else a tar of one."""
    return _tree_or_tar(Path(config.root), "tinyimagenet100", "val")


def imagenet(config: DataConfig) -> SourceFiles:
    """A tree."""
    return _tree(Path(config.root) / "imagenet", "val")


def folder(config: DataConfig) -> SourceFiles:
    """Any tree with train/ and test/ or val/, and an own validation folder."""
    tree = Path(tree_at(config.root, str(at_home(config.folder or "")), "folder"))
    files = _tree(tree, "test" if (tree / "test").is_dir() else "val")
    if config.validation is None:
        return files
    own = Path(tree_at(config.root, str(at_home(config.validation)), "validation"))
    return files._replace(validation=(own, tuple(_images(own, ""))))


def embeddings(config: DataConfig) -> SourceFiles:
    """The file."""
    path = at_home(config.embeddings or "")
    return SourceFiles(path.parent, (path.name,))


def _tree_or_tar(root: Path, name: str, test: str) -> SourceFiles:
    if (root / name).is_dir():
        return _tree(root / name, test)
    return SourceFiles(root, (f"{name}-imagefolder.tar",))


def _tree(tree: Path, test: str) -> SourceFiles:
    return SourceFiles(tree, tuple(name for part in ("train", test) for name in _images(tree, part)))


def _images(tree: Path, part: str) -> Iterator[str]:
    """Names of all files that the decoder reads."""
    flawed: list[tuple[str, str]] = []
    for label in class_folders(tree / part, Counter()):
        place = f"{part}/{label}" if part else label
        yield from (f"{place}/{name}" for name in images_below(tree / part / label, Counter(), flawed))
    if flawed:
        raise CorruptData(f"{flawed[0][0]}: {flawed[0][1]}")
