"""GTSRB, the German traffic sign benchmark, in torchvision's layout; classes have names in its publishers' order."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from fkal.data.errors import CorruptData, MissingData, excerpt, printable
from fkal.data.files import ImageFiles, folder_files
from fkal.data.published import bring
from fkal.data.registry import GTSRB_LABELS, GTSRB_NAMES, GTSRB_TEST, GTSRB_TRAINING, gtsrb_folder
from fkal.data.regular_files import read_regular
from fkal.data.settings import DataConfig

LARGEST_LABELS = 2**24  # bytes; the published file has a fortieth of them
CSV_FILES = ".csv files"
NUMBERS = tuple(f"{number:05}" for number in range(len(GTSRB_NAMES)))


def bring_gtsrb(config: DataConfig, *, download: bool) -> None:
    """Download what is absent of root/gtsrb."""
    from torchvision.datasets import GTSRB

    folder = gtsrb_folder(Path(config.root))
    for part, needed in (("train", (GTSRB_TRAINING,)), ("test", (GTSRB_TEST, GTSRB_LABELS))):
        if not all((folder / name).exists() for name in needed):
            bring(lambda part=part: GTSRB(config.root, part, download=True), download)  # type: ignore[misc]


def published_gtsrb(root: Path) -> tuple[ImageFiles, ImageFiles]:
    """Training and test images of root/gtsrb."""
    folder = gtsrb_folder(root)
    training = Path(GTSRB_TRAINING)
    train = folder_files(folder / training.parent, training.name)
    if train.classes != NUMBERS:
        strangers = sorted(set(train.classes) ^ set(NUMBERS))
        raise CorruptData(
            f"{printable(folder / training)}: class folders {', '.join(strangers[:5])} are absent or not known; "
            "GTSRB has 00000 to 00042: remove the folder and run again to download it"
        )
    left_out = Counter({kind: n for kind, n in train.left_out.items() if kind != CSV_FILES})  # which boxes are in
    named = ImageFiles(train.where, train.names, train.labels, GTSRB_NAMES, left_out=left_out)
    return named, _test_files(folder)


def in_published_order(files: ImageFiles) -> ImageFiles:
    """A tree with named classes, its labels numbered as the publishers number them."""
    if set(files.classes) != set(GTSRB_NAMES):
        strangers = sorted(set(files.classes) ^ set(GTSRB_NAMES))
        raise CorruptData(
            f"{printable(files.where)}: class folders {', '.join(map(printable, strangers[:5]))} are absent or not "
            f"known; GTSRB has {len(GTSRB_NAMES)}: {', '.join(GTSRB_NAMES[:3])}, ..."
        )
    numbers = torch.tensor([GTSRB_NAMES.index(name) for name in files.classes])
    return ImageFiles(
        files.where, files.names, numbers[files.labels], GTSRB_NAMES, spans=files.spans, left_out=files.left_out
    )


def _test_files(folder: Path) -> ImageFiles:
    """The test images in the order of the file that has their labels. Raises MissingData without that file."""
    path = folder / GTSRB_LABELS
    try:
        text = read_regular(path, limit=LARGEST_LABELS).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptData(f"{printable(path)}: not a text file; remove it and run again to download it") from error
    except OSError as error:
        raise MissingData(f"{printable(path)}: {error.strerror or error}") from error
    rows = [_test_row(row, path) for row in csv.DictReader(io.StringIO(text), delimiter=";", skipinitialspace=True)]
    if not rows:
        raise CorruptData(f"{printable(path)}: names no image; remove it and run again to download it")
    return ImageFiles(
        where=folder,
        names=tuple(f"{GTSRB_TEST}/{name}" for name, _ in rows),
        labels=torch.tensor([label for _, label in rows]),
        classes=GTSRB_NAMES,
    )


def _test_row(row: Mapping[str, str | None], path: Path) -> tuple[str, int]:
    """The file of a test image, and its class."""
    name, label = row.get("Filename") or "", row.get("ClassId") or ""
    if Path(name).name != name or not name.endswith(".ppm"):
        raise CorruptData(f"{printable(path)}: Filename = {excerpt(name)}: give names as 00000.ppm")
    if not (label.isascii() and label.isdigit() and int(label[:9]) < len(GTSRB_NAMES)):
        raise CorruptData(f"{printable(path)}: ClassId = {excerpt(label)}: give 0 to {len(GTSRB_NAMES) - 1}")
    return name, int(label)
