"""Datasets as trees of image files, PART/CLASS/FILE: decoded into one tensor where small, else streamed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from fkal.data.decoding import corruption, decoded, fitted, pixels_of
from fkal.data.digest import files_digest
from fkal.data.errors import CorruptImage, MissingData
from fkal.data.files import ImageFiles, folder_files, refuse_other_classes, tar_parts
from fkal.data.images import FolderImages, TensorImages
from fkal.data.loading import in_processes
from fkal.data.published import Parts, bring_cifar10, cifar10_batches
from fkal.data.registry import IMAGENET_MEAN, IMAGENET_STD
from fkal.data.settings import DataConfig

IN_MEMORY = 2 * 2**30  # bytes of decoded pixels; more are streamed
CHUNK_BYTES = 2 * 2**20  # decoded by a worker at once; small, as shared memory often is
WORTH_WORKERS = 4096  # files; fewer are decoded before workers have started
IMAGENET_SIZE = 224
GREY_MEAN, GREY_STD = (0.5,), (0.5,)
CIFAR10_BATCHES = "cifar-10-batches-py"


def cifar10(config: DataConfig, *, download: bool) -> Parts:
    """torchvision's batches, or a tree of JPEG files, or a tar of one; downloaded as batches."""
    root = Path(config.root)
    if not (root / CIFAR10_BATCHES).exists() and (tree := _tree_or_tar(root, "cifar10", "test")):
        return _in_memory(config, *tree)
    if not (root / CIFAR10_BATCHES).exists():
        bring_cifar10(config, download=download)
    return cifar10_batches(config)


def tinyimagenet(config: DataConfig, *, download: bool) -> Parts:
    """A tree of JPEG files, or a tar of one; its val part tests."""
    tree = _tree_or_tar(Path(config.root), "tinyimagenet100", "val")
    if tree is None:
        raise MissingData("it has no download")
    return _in_memory(config, *tree)


def imagenet(config: DataConfig, *, download: bool) -> Parts:
    """root/imagenet/{train,val}; its val part tests."""
    return _streamed(config, *_folder_parts(Path(config.root) / "imagenet", "val"))


def folder(config: DataConfig, *, download: bool) -> Parts:
    """Any tree with train/ and test/ or val/."""
    tree = Path(config.root) / (config.folder or "")
    train, test = _folder_parts(tree, "test" if (tree / "test").is_dir() else "val")
    height, width = (config.image_size,) * 2 if config.image_size else _first_size(train)
    small = (len(train) + len(test)) * 3 * height * width <= IN_MEMORY
    return _in_memory(config, train, test, channels=None) if small else _streamed(config, train, test)


def _tree_or_tar(root: Path, name: str, test: str) -> tuple[ImageFiles, ImageFiles] | None:
    tar = root / f"{name}-imagefolder.tar"
    if (root / name).is_dir():
        return _folder_parts(root / name, test)
    if tar.is_file():
        train_files, test_files = tar_parts(tar, "train", test)
        refuse_other_classes(train_files.classes, test_files.classes, tar)
        return train_files, test_files
    return None


def _folder_parts(tree: Path, test: str) -> tuple[ImageFiles, ImageFiles]:
    parts = folder_files(tree, "train"), folder_files(tree, test)
    refuse_other_classes(parts[0].classes, parts[1].classes, tree)
    return parts


def _streamed(config: DataConfig, train: ImageFiles, test: ImageFiles) -> Parts:
    mean, std = config.mean or IMAGENET_MEAN, config.std or IMAGENET_STD
    size = config.image_size or IMAGENET_SIZE
    train_set, test_set = (
        FolderImages(files, mean=mean, std=std, size=size, workers=config.workers) for files in (train, test)
    )
    return train_set, test_set


def _in_memory(config: DataConfig, train: ImageFiles, test: ImageFiles, *, channels: int | None = 3) -> Parts:
    """`channels` None: one if all files are grey, else three."""
    height, width = (config.image_size,) * 2 if config.image_size else _first_size(train)
    decoded_train = _decoded_files(train, height, width, config.workers)
    decoded_test = _decoded_files(test, height, width, config.workers)
    if channels is None:
        channels = 1 if decoded_train.grey and decoded_test.grey else 3
    return _tensor_images(config, train, decoded_train, channels), _tensor_images(config, test, decoded_test, channels)


@dataclass(frozen=True, eq=False)
class _Decoded:
    pixels: UInt8[Tensor, "n 3 h w"]
    hashes: list[bytes]  # SHA-256 of each file
    grey: bool  # every file


def _tensor_images(config: DataConfig, files: ImageFiles, part: _Decoded, channels: int) -> TensorImages:
    pixels = part.pixels[:, :channels].contiguous()
    return TensorImages(
        pixels,
        files.labels,
        files.classes,
        mean=config.mean or (GREY_MEAN if channels == 1 else IMAGENET_MEAN),
        std=config.std or (GREY_STD if channels == 1 else IMAGENET_STD),
        names=files.names,
        digest=files_digest(part.hashes, pixels.shape[1:], files.labels, files.classes),
    )


def _decoded_files(files: ImageFiles, height: int, width: int, workers: int) -> _Decoded:
    """All files, each scaled to cover height x width and cropped around its centre."""
    step = max(1, CHUNK_BYTES // (3 * height * width))
    chunks = [range(start, min(start + step, len(files))) for start in range(0, len(files), step)]
    loader = in_processes(_Chunks(files, height, width), chunks, workers=workers if len(files) >= WORTH_WORKERS else 0)
    pixels = torch.empty(len(files), 3, height, width, dtype=torch.uint8)
    facts: list[tuple[bytes, bool] | str] = []
    for chunk, (part, part_facts) in zip(chunks, loader, strict=True):
        pixels[chunk.start : chunk.stop] = part
        facts.extend(part_facts)
    flawed = [fact for fact in facts if isinstance(fact, str)]
    if flawed:
        raise CorruptImage(corruption(flawed, "not whole images"))
    sound = [fact for fact in facts if not isinstance(fact, str)]
    return _Decoded(pixels, [digest for digest, _ in sound], all(grey for _, grey in sound))


class _Chunks:
    """For the loader: indices -> their pixels, and of each file (SHA-256, grey) or, if it is corrupt, its path.

    Processes, since threads decode small images no faster than one alone: most of the time goes to Python.
    """

    def __init__(self, files: ImageFiles, height: int, width: int) -> None:
        self._files, self._height, self._width = files, height, width

    def __getitem__(self, chunk: range) -> tuple[UInt8[Tensor, "b 3 h w"], list[tuple[bytes, bool] | str]]:
        pixels = torch.empty(len(chunk), 3, self._height, self._width, dtype=torch.uint8)
        return pixels, [self._decode_into(row, index) for row, index in zip(pixels, chunk, strict=True)]

    def _decode_into(self, row: UInt8[Tensor, "3 h w"], index: int) -> tuple[bytes, bool] | str:
        data = self._files.bytes_of(index)
        try:
            image = decoded(data, self._files.path(index))
        except CorruptImage:
            return self._files.path(index)
        row[:] = pixels_of(fitted(image, self._height, self._width))  # a grey image fills all three channels
        return hashlib.sha256(data).digest(), image.mode == "L"


def _first_size(files: ImageFiles) -> tuple[int, int]:
    """(height, width) of the first image."""
    image = decoded(files.bytes_of(0), files.path(0))
    return image.height, image.width
