"""Datasets as trees of image files, PART/CLASS/FILE: decoded into one tensor where small, else streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import torch
from jaxtyping import UInt8
from torch import Tensor

from fkal.data.decoding import NEW_PIXELS, UNCHANGED, Change, corruption, decode, fitted, header, pixels_of
from fkal.data.digest import files_digest
from fkal.data.errors import CorruptData, CorruptImage, IncompleteData, MissingData, printable
from fkal.data.files import ImageFiles, ImageSource, folder_files, notes_on, refuse_other_classes, tar_parts, with_added
from fkal.data.images import FolderImages, TensorImages
from fkal.data.loading import in_processes
from fkal.data.published import Parts, bring_cifar10, cifar10_batches
from fkal.data.registry import CIFAR10_BATCHES, IMAGENET_MEAN, IMAGENET_STD, PartsWithValidation, has_published_gtsrb
from fkal.data.settings import DataConfig, Interpolation
from fkal.data.traffic_signs import bring_gtsrb, in_published_order, published_gtsrb

IN_MEMORY = 2 * 2**30  # bytes of decoded pixels; more are streamed
CHUNK_BYTES = 2 * 2**20  # decoded by a worker at once; small, as shared memory often is
HEADERS_A_CHUNK = 512
WORTH_WORKERS = 4096  # files; fewer are decoded before workers have started
CIFAR10_SIZE, GTSRB_SIZE, TINYIMAGENET_SIZE, IMAGENET_SIZE = 32, 32, 64, 224
GREY_MEAN, GREY_STD = (0.5,), (0.5,)


def cifar10(config: DataConfig, *, download: bool) -> Parts:
    """torchvision's batches, or a tree of JPEG files, or a tar of one; downloaded as batches."""
    root = Path(config.root)
    if not (root / CIFAR10_BATCHES).exists() and (tree := _tree_or_tar(root, "cifar10", "test")):
        return _in_memory(config, *tree, size=_square(config.image_size or CIFAR10_SIZE))
    if not (root / CIFAR10_BATCHES).exists():
        bring_cifar10(config, download=download)
    return cifar10_batches(config)


def gtsrb(config: DataConfig, *, download: bool) -> Parts:
    """torchvision's folder, or a tree of JPEG files with named classes, or a tar of one; downloaded as the first."""
    root = Path(config.root)
    size = _square(config.image_size or GTSRB_SIZE)
    if not has_published_gtsrb(root) and (tree := _tree_or_tar(root, "gtsrb", "test")):
        train, test = map(in_published_order, tree)
        return _in_memory(config, train, test, size=size)
    bring_gtsrb(config, download=download)
    return _in_memory(config, *published_gtsrb(root), size=size)


def tinyimagenet(config: DataConfig, *, download: bool) -> Parts:
    """A tree of JPEG files, or a tar of one; its val part tests."""
    tree = _tree_or_tar(Path(config.root), "tinyimagenet100", "val")
    if tree is None:
        raise MissingData("it has no download")
    return _in_memory(config, *tree, size=_square(config.image_size or TINYIMAGENET_SIZE))


def imagenet(config: DataConfig, *, download: bool) -> Parts:
    """root/imagenet/{train,val}; its val part tests."""
    return _streamed(config, *_folder_parts(Path(config.root) / "imagenet", "val"))


def folder(config: DataConfig, *, download: bool) -> Parts | PartsWithValidation:
    """Any tree with train/ and test/ or val/, and images of `validation`, an own folder, behind the training images.

    Its images take `image_size`, else the median height and the median width of the training images; trees that are
    too large for memory are streamed at 224 x 224.
    """
    tree = Path(config.root) / (config.folder or "")
    train, test = _folder_parts(tree, _test_part(tree))
    height, width = _square(config.image_size) if config.image_size else median_size(train, config.workers)
    n_train = len(train)
    if config.validation is not None:
        train = with_added(train, _own_validation(Path(config.root) / config.validation, train, test))
    if (len(train) + len(test)) * 3 * height * width > IN_MEMORY:
        parts = _streamed(config, train, test)
    else:
        parts = _in_memory(config, train, test, size=(height, width), channels=None)
    return parts if config.validation is None else PartsWithValidation(*parts, torch.arange(n_train, len(train)))


def _test_part(tree: Path) -> str:
    """`test`, else `val`. Raises IncompleteData for a tree with training images alone."""
    part = next((name for name in ("test", "val") if (tree / name).is_dir()), None)
    if part is None and (tree / "train").is_dir():
        raise IncompleteData(
            f"{printable(tree)}: has train/ but neither test/ nor val/; accuracy is measured on images that neither "
            "training nor selection sees: move some images of each class to test/CLASS/"
        )
    return part or "val"


def _own_validation(place: Path, train: ImageFiles, test: ImageFiles) -> ImageFiles:
    """The images of a validation folder. Raises CorruptData where training or test images are in it."""
    for files, what in ((train, "training"), (test, "test")):
        if place.samefile(files.where / files.names[0].partition("/")[0]):
            raise CorruptData(
                f"data.validation: {printable(place)} holds the {what} images of the tree; "
                "give a folder of other images, CLASS/*, or leave validation unset to draw them from train/"
            )
    place = place if place.name not in ("", "..") else place.resolve()
    own = folder_files(place.parent, place.name)
    refuse_other_classes(train, own, test_name=place.name)
    return own


def median_size(files: ImageFiles, workers: int) -> tuple[int, int]:
    """(height, width), each the median over the files, read from their headers; of two middle values the lower."""
    chunks = _chunks(len(files), HEADERS_A_CHUNK)
    loader = in_processes(_Headers(files), chunks, workers=_worth_workers(files, workers))
    found = [each for chunk in loader for each in chunk]
    _refuse_flawed(found)
    sizes = [each for each in found if not isinstance(each, _Flawed)]
    return median_low(height for height, _ in sizes), median_low(width for _, width in sizes)


def _tree_or_tar(root: Path, name: str, test: str) -> tuple[ImageFiles, ImageFiles] | None:
    tar = root / f"{name}-imagefolder.tar"
    if (root / name).is_dir():
        return _folder_parts(root / name, test)
    if tar.is_file():
        train_files, test_files = tar_parts(tar, "train", test)
        refuse_other_classes(train_files, test_files, test_name=test)
        return train_files, test_files
    return None


def _folder_parts(tree: Path, test: str) -> tuple[ImageFiles, ImageFiles]:
    parts = folder_files(tree, "train"), folder_files(tree, test)
    refuse_other_classes(*parts, test_name=test)
    return parts


def _streamed(config: DataConfig, train: ImageFiles, test: ImageFiles) -> Parts:
    mean, std = config.mean or IMAGENET_MEAN, config.std or IMAGENET_STD
    size = config.image_size or IMAGENET_SIZE
    train_set, test_set = (
        FolderImages(
            files,
            mean=mean,
            std=std,
            size=size,
            workers=config.workers,
            interpolation=config.resampling,
            decoding=config.decoding,
        )
        for files in (train, test)
    )
    return train_set, test_set


def _in_memory(
    config: DataConfig, train: ImageFiles, test: ImageFiles, *, size: tuple[int, int], channels: int | None = 3
) -> Parts:
    """At `size` = (height, width); `channels` None: one if all files are grey, else three."""
    decoded_train = decoded_files(train, *size, config.workers, config.resampling)
    decoded_test = decoded_files(test, *size, config.workers, config.resampling)
    if channels is None:
        channels = 1 if decoded_train.grey and decoded_test.grey else 3
    return _tensor_images(config, train, decoded_train, channels), _tensor_images(config, test, decoded_test, channels)


@dataclass(frozen=True, eq=False)
class DecodedFiles:
    """What a part of a dataset is in memory."""

    pixels: UInt8[Tensor, "n 3 h w"]
    hashes: list[bytes]  # SHA-256 of each file
    grey: bool  # every file
    changes: list[Change]


@dataclass(frozen=True)
class _Sound:
    """What one decoded file gave besides its pixels."""

    file_hash: bytes
    grey: bool
    changes: Change


@dataclass(frozen=True)
class _Flawed:
    """A file without pixels."""

    path: str
    error: CorruptImage


def _tensor_images(config: DataConfig, files: ImageFiles, part: DecodedFiles, channels: int) -> TensorImages:
    pixels = part.pixels[:, :channels].contiguous()
    unsaid = Change.FITTED if config.image_size else UNCHANGED  # a size that is set is meant for all
    return TensorImages(
        pixels,
        files.labels,
        files.classes,
        mean=config.mean or (GREY_MEAN if channels == 1 else IMAGENET_MEAN),
        std=config.std or (GREY_STD if channels == 1 else IMAGENET_STD),
        names=files.printable_names,
        digest=files_digest(
            part.hashes,
            pixels.shape[1:],
            files.labels,
            files.classes,
            has_new_pixels=any(changes & NEW_PIXELS for changes in part.changes),
            interpolation=config.resampling,
        ),
        file_hashes=part.hashes,
        notes=notes_on(files, [changes & ~unsaid for changes in part.changes]),
    )


def decoded_files(
    files: ImageSource, height: int, width: int, workers: int, interpolation: Interpolation = "bilinear"
) -> DecodedFiles:
    """All files, each scaled to cover height x width and cropped around its centre."""
    chunks = _chunks(len(files), max(1, CHUNK_BYTES // (3 * height * width)))
    loader = in_processes(_Chunks(files, height, width, interpolation), chunks, workers=_worth_workers(files, workers))
    pixels = torch.empty(len(files), 3, height, width, dtype=torch.uint8)
    found: list[_Sound | _Flawed] = []
    for chunk, (part, part_found) in zip(chunks, loader, strict=True):
        pixels[chunk.start : chunk.stop] = part
        found.extend(part_found)
    _refuse_flawed(found)
    sound = [each for each in found if not isinstance(each, _Flawed)]
    return DecodedFiles(
        pixels,
        hashes=[each.file_hash for each in sound],
        grey=all(each.grey for each in sound),
        changes=[each.changes for each in sound],
    )


class _Chunks:
    """For the loader: indices -> their pixels, and of each file what else it gave, or what is wrong with it.

    Processes, since threads decode small images no faster than one alone: most of the time goes to Python.
    """

    def __init__(self, files: ImageSource, height: int, width: int, interpolation: Interpolation) -> None:
        self._files, self._height, self._width, self._interpolation = files, height, width, interpolation

    def __getitem__(self, chunk: range) -> tuple[UInt8[Tensor, "b 3 h w"], list[_Sound | _Flawed]]:
        pixels = torch.empty(len(chunk), 3, self._height, self._width, dtype=torch.uint8)
        return pixels, [self._decode_into(row, index) for row, index in zip(pixels, chunk, strict=True)]

    def _decode_into(self, row: UInt8[Tensor, "3 h w"], index: int) -> _Sound | _Flawed:
        path = self._files.path(index)
        try:
            data = self._files.bytes_of(index)
            decoded = decode(data, path)
        except CorruptImage as error:
            return _Flawed(path, error)
        view = fitted(decoded.image, self._height, self._width, self._interpolation)
        row[:] = pixels_of(view)  # a grey image fills all three channels
        cut = UNCHANGED if view is decoded.image else Change.FITTED
        return _Sound(hashlib.sha256(data).digest(), decoded.image.mode == "L", decoded.changes | cut)


class _Headers:
    """For the loader: indices -> the (height, width) of each file, or what is wrong with it."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def __getitem__(self, chunk: range) -> list[tuple[int, int] | _Flawed]:
        return [self._size(index) for index in chunk]

    def _size(self, index: int) -> tuple[int, int] | _Flawed:
        path = self._files.path(index)
        try:
            with self._files.opened(index) as file:
                found = header(file, path)
        except CorruptImage as error:
            return _Flawed(path, error)
        return found.height, found.width


def _chunks(n: int, step: int) -> list[range]:
    return [range(start, min(start + step, n)) for start in range(0, n, step)]


def _worth_workers(files: ImageSource, workers: int) -> int:
    return workers if len(files) >= WORTH_WORKERS else 0


def _refuse_flawed(found: Sequence[object]) -> None:
    """One error that names every flawed file."""
    flawed = [each for each in found if isinstance(each, _Flawed)]
    if flawed:
        first = flawed[0].error
        pairs = [(each.path, each.error.reason) for each in flawed]
        raise CorruptImage(corruption(pairs), first.flaw, first.reason)


def _square(size: int) -> tuple[int, int]:
    return size, size
