"""Small datasets of the real formats, and where the real ones lie."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.data.images import TensorImages


@pytest.fixture
def real_root(data_root: Path) -> Path:
    """The folder of real datasets."""
    if not (data_root / "MNIST").is_dir():
        pytest.skip(f"no real datasets under {data_root}; set FKAL_DATA_ROOT")
    return data_root


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection fails at once, as on a machine without a network."""

    def refused(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refused)


@pytest.fixture
def tiny_images() -> Callable[..., TensorImages]:
    """n images of 4 classes whose pixels tell their index."""

    def make(
        n: int = 40, augmentation: str = "none", channels: int = 3, labels: torch.Tensor | None = None
    ) -> TensorImages:
        labels = torch.arange(n) % 4 if labels is None else labels
        pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, channels, 6, 6).clone()
        return TensorImages(pixels, labels, "abcd", mean=(0.5,), std=(0.5,), names="train", augmentation=augmentation)

    return make


def _noise(seed: int, size: tuple[int, int] = (20, 16), channels: int = 3) -> Image.Image:
    """A colour or grey image that compresses like a photograph, roughly."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse if channels == 3 else coarse[..., 0])
    return image.resize(size, Image.Resampling.BILINEAR)


def _jpeg(seed: int, size: tuple[int, int] = (20, 16), channels: int = 3) -> bytes:
    file = io.BytesIO()
    _noise(seed, size, channels).save(file, "JPEG", quality=95)
    return file.getvalue()


def _write_tree(
    tree: Path, *, test: str = "test", classes: tuple[str, ...] = ("cat", "dog"), per_class: int = 6, channels: int = 3
) -> Path:
    """tree/{train,test}/CLASS/NNNN.jpg."""
    for p, part in enumerate(("train", test)):
        for c, name in enumerate(classes):
            (tree / part / name).mkdir(parents=True)
            for i in range(per_class):
                data = _jpeg(1000 * p + 100 * c + i, channels=channels)
                (tree / part / name / f"{i:04}.jpg").write_bytes(data)
    return tree


def _tar_of(tree: Path, tar: Path) -> Path:
    with tarfile.open(tar, "w") as archive:
        archive.add(tree, arcname=tree.name)
    return tar


def _write_svhn(folder: Path, *, n: int = 12) -> dict[str, np.ndarray]:
    """train, extra and test in the published format: X (32 32 3 n), y (n 1), the digit 0 written as 10."""
    from scipy.io import savemat

    folder.mkdir(parents=True, exist_ok=True)
    labels = {}
    for k, part in enumerate(("train", "extra", "test")):
        rng = np.random.default_rng(k)
        labels[part] = rng.integers(1, 11, (n + k, 1)).astype(np.uint8)
        labels[part][0] = 10
        pixels = rng.integers(0, 256, (32, 32, 3, n + k), dtype=np.uint8)
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": labels[part]}, do_compression=True)
    return labels


@pytest.fixture
def jpeg() -> Callable[..., bytes]:
    return _jpeg


@pytest.fixture
def write_tree() -> Callable[..., Path]:
    return _write_tree


@pytest.fixture
def tar_of() -> Callable[..., Path]:
    return _tar_of


@pytest.fixture
def write_svhn() -> Callable[..., dict[str, np.ndarray]]:
    return _write_svhn
