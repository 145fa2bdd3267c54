"""Datasets in their publishers' own formats: the digits of scikit-learn, MNIST, SVHN and CIFAR-10 of torchvision.

torchvision takes half a second to import, so each function imports what it uses of it.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional

from fkal.data.errors import CorruptData, MissingData, excerpt, printable
from fkal.data.images import ImageSet, TensorImages
from fkal.data.registry import DIGIT_NAMES, MNIST_FILES, MNIST_KINDS, mnist_files, svhn_file, svhn_root
from fkal.data.regular_files import open_regular, refuse_irregular
from fkal.data.settings import DataConfig, Interpolation

Parts = tuple[ImageSet, ImageSet]  # train, test
Labeled = tuple[UInt8[Tensor, "n c h w"], Int64[Tensor, " n"]]

DIGITS_TRAIN = 1297  # of 1,797; the last 500 test
PATIENCE = 20.0  # seconds without a byte before a download is given up
CHUNK = 4096  # images; bounds the float copies of a resize
SVHN_PARTS = {"train": ("train", "extra"), "test": ("test",)}
MOST_SVHN_IMAGES = 10_000_000  # published are 630,420
GZIP_MAGIC = b"\x1f\x8b"
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digits(config: DataConfig, *, download: bool) -> Parts:
    """1,797 handwritten digits of 8x8 that come with scikit-learn."""
    from sklearn.datasets import load_digits  # half a second, for this dataset alone

    bunch = load_digits()
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return (
        _images(config, (pixels[:DIGITS_TRAIN], labels[:DIGITS_TRAIN]), DIGIT_NAMES, "train"),
        _images(config, (pixels[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]), DIGIT_NAMES, "test"),
    )


def mnist(config: DataConfig, *, download: bool) -> Parts:
    """root/MNIST/raw, as torchvision lays it out."""
    from torchvision.datasets import MNIST

    root = Path(config.root)
    if not all(path.exists() for path in mnist_files(root)):
        bring(lambda: MNIST(root, download=True), download)
    _refuse_other_sides([path for path in mnist_files(root) if path.name.endswith(MNIST_KINDS[0])])
    return (
        _images(config, _mnist_part(root, "train"), DIGIT_NAMES, "train"),
        _images(config, _mnist_part(root, "test"), DIGIT_NAMES, "test"),
    )


def svhn(config: DataConfig, *, download: bool) -> Parts:
    """root/svhn or root itself; `train` and `extra` together make the train part, in this order."""
    from torchvision.datasets import SVHN

    root = svhn_root(Path(config.root))
    for part in ("train", "extra", "test"):
        if not (root / svhn_file(part)).exists():
            bring(lambda part=part: SVHN(root, part, download=True), download)  # type: ignore[misc]
    return (
        _images(config, _svhn_part(root, "train"), DIGIT_NAMES, "train"),
        _images(config, _svhn_part(root, "test"), DIGIT_NAMES, "test"),
    )


def cifar10_batches(config: DataConfig) -> Parts:
    """root/cifar-10-batches-py; unpickled by torchvision, and only if the files are the published ones."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    root = Path(config.root)
    for name, md5 in CIFAR10.train_list + CIFAR10.test_list + [[CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]:
        path = root / CIFAR10.base_folder / name
        if not check_integrity(path, md5):
            raise CorruptData(
                f"{path}: not the published file (md5 {md5}), and pickles of others are not opened; "
                f"remove {path.parent} and run again to download it"
            )
    return (
        _images(config, _cifar_part(root, train=True), CIFAR_CLASSES, "train"),
        _images(config, _cifar_part(root, train=False), CIFAR_CLASSES, "test"),
    )


def bring_cifar10(config: DataConfig, *, download: bool) -> None:
    """Download root/cifar-10-batches-py."""
    from torchvision.datasets import CIFAR10

    bring(lambda: CIFAR10(config.root, download=True), download)


def resized(
    pixels: UInt8[Tensor, "n c h w"], size: int | None, interpolation: Interpolation = "bilinear"
) -> UInt8[Tensor, "n c h2 w2"]:
    """Every image scaled to size x size, antialiased but for `nearest`."""
    if size is None or pixels.shape[2:] == (size, size):
        return pixels
    chunks = [_scaled(pixels[start : start + CHUNK], size, interpolation) for start in range(0, len(pixels), CHUNK)]
    return torch.cat(chunks)


def _scaled(pixels: UInt8[Tensor, "b c h w"], size: int, interpolation: Interpolation) -> UInt8[Tensor, "b c s s"]:
    smooth = interpolation != "nearest"
    scaled = functional.interpolate(pixels.float(), (size, size), mode=interpolation, antialias=smooth)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def _images(config: DataConfig, labeled: Labeled, classes: tuple[str, ...], part: str) -> TensorImages:
    assert config.mean is not None, "load() fills it in"
    assert config.std is not None, "load() fills it in"
    pixels, labels = labeled
    return TensorImages(
        resized(pixels, config.image_size, config.resampling),
        labels,
        classes,
        mean=config.mean,
        std=config.std,
        names=part,
    )


def _mnist_part(root: Path, part: str) -> Labeled:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    images_path, labels_path = (root / "MNIST" / "raw" / f"{MNIST_FILES[part]}-{kind}" for kind in MNIST_KINDS)
    _idx_sides(images_path, dims=3)
    _idx_sides(labels_path, dims=1)
    pixels, labels = read_image_file(str(images_path))[:, None], read_label_file(str(labels_path))
    _refuse_unless_digits(labels, len(pixels), labels_path)
    return pixels, labels


def _refuse_other_sides(paths: Sequence[Path]) -> None:
    sides = {path.name: _idx_sides(path, dims=3)[1:] for path in paths}
    if len(set(sides.values())) > 1:
        shown = ", ".join(f"{name} {height}x{width}" for name, (height, width) in sides.items())
        raise CorruptData(
            f"{paths[0].parent}: images of different sizes ({shown}); remove them and run again to download them"
        )


def _idx_sides(path: Path, *, dims: int) -> tuple[int, ...]:
    """What the header of an idx file of bytes says; the file must be as long. torchvision does not look."""
    with _readable(path), open_regular(path) as file:
        head = file.read(4 + 4 * dims)
        size = path.stat().st_size
    sides = tuple(int.from_bytes(head[4 * i : 4 * i + 4], "big") for i in range(1, dims + 1))
    if head[:2] == GZIP_MAGIC:
        raise CorruptData(f"{path}: a gzip file; unpack it (gunzip) to {path.name}")
    if head[:4] != bytes([0, 0, 8, dims]):
        raise CorruptData(
            f"{path}: not an idx file of {dims}-dimensional bytes; remove it and run again to download it"
        )
    if size != 4 + 4 * dims + math.prod(sides):
        raise CorruptData(
            f"{path}: {size} bytes where its header says {4 + 4 * dims + math.prod(sides)}; "
            "remove it and run again to download it"
        )
    if 0 in sides:
        shown = " x ".join(map(str, sides))
        raise CorruptData(f"{path}: its header says {shown}: nothing; remove it and run again to download it")
    return sides


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what the file system says into an error of this file."""
    try:
        yield
    except OSError as error:
        raise CorruptData(
            f"{printable(path)}: cannot be read ({error.strerror or error}); put the published file there"
        ) from error


def _svhn_part(root: Path, part: str) -> Labeled:
    pieces = [_svhn_piece(root, piece) for piece in SVHN_PARTS[part]]
    pixels, labels = zip(*pieces, strict=True)
    return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))


def _svhn_piece(root: Path, piece: str) -> tuple[np.ndarray, np.ndarray]:
    """By torchvision where the file is the published one; a file of the same format but other content is taken
    as it is after a look at its structure, since the data digest records what was used."""
    from torchvision.datasets import SVHN

    try:
        published = SVHN(root, piece)
    except RuntimeError:  # another md5
        return _mat_piece(root / svhn_file(piece))
    return published.data, published.labels


def _mat_piece(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """X (32 32 3 n) of bytes and y (n 1), where 10 stands for the digit 0."""
    from scipy.io import loadmat, whosmat

    with _readable(path):
        refuse_irregular(path)
    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}  # of what a header claims nothing is loaded yet
        mat = loadmat(path, variable_names=["X", "y"]) if _is_svhn_shape(shapes) else {}
    except Exception as error:  # scipy's reader raises many kinds at broken input
        raise CorruptData(
            f"{path}: not a whole MATLAB file ({_one_line(error)}); remove it and run again to download it"
        ) from error
    pixels, labels = mat.get("X"), mat.get("y")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and isinstance(labels, np.ndarray)):
        raise CorruptData(
            f"{path}: has no X (32, 32, 3, n) of bytes with a y of n labels, as SVHN has; "
            "remove it and run again to download it"
        )
    return pixels.transpose(3, 2, 0, 1), _svhn_labels(labels, path)


def _is_svhn_shape(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    pixels, labels = shapes.get("X", ()), shapes.get("y", ())
    return len(pixels) == 4 and pixels[:3] == (32, 32, 3) and 0 < pixels[3] == math.prod(labels) <= MOST_SVHN_IMAGES


def _svhn_labels(labels: np.ndarray, path: Path) -> np.ndarray:
    """The digits; MATLAB's numbers are floats as often as not."""
    flat = labels.reshape(-1)
    is_number = flat.dtype.kind in "iuf"
    wrong = flat[~((flat >= 0) & (flat <= 10) & (flat == np.rint(flat)))] if is_number else flat
    if len(wrong):
        raise CorruptData(
            f"{path}: a label of {excerpt(wrong[:1].tolist()[0])}: labels are whole numbers, 0 to 10; "
            "remove the file and run again to download it"
        )
    digits = flat.astype(np.int64)
    digits[digits == 10] = 0
    return digits


def _refuse_unless_digits(labels: Tensor, n: int, path: Path) -> None:
    if len(labels) != n:
        raise CorruptData(f"{path}: {len(labels)} labels for {n} images; remove it and run again to download it")
    if n and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise CorruptData(f"{path}: labels beyond 0 to 9; remove it and run again to download it")


def _cifar_part(root: Path, *, train: bool) -> Labeled:
    from torchvision.datasets import CIFAR10

    part = CIFAR10(root, train=train)
    return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)


def bring(download_it: Callable[[], object], allowed: bool) -> None:
    """Download something. Raises MissingData where that is not allowed or fails."""
    if not allowed:
        raise MissingData("downloads are off")
    with _patience():
        try:
            download_it()
        except (URLError, HTTPException, RuntimeError, OSError) as error:
            raise MissingData(f"the download failed: {_last_line(error)}") from error


@contextmanager
def _patience() -> Iterator[None]:
    """torchvision opens its connections without a time limit of their own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:200] or type(error).__name__


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
