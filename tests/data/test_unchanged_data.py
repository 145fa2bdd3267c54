"""Digests of ordinary trees, as version 72854fb computed them: finished runs are found again by them."""

import base64
import hashlib
import struct
import tarfile
import zlib

import pytest
import torch

from fkal.data import trees
from fkal.data.datasets import load
from fkal.data.settings import DataConfig

JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8"
    "ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAAR"
    "CAAEAAYDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAbEAACAQUAAAAAAAAAAAAAAAAAAhEBAwQiMf/EABUBAQEAAAAAAAAA"
    "AAAAAAAAAAME/8QAGhEAAgMBAQAAAAAAAAAAAAAAAQIAAxExM//aAAwDAQACEQMRAD8AryrKQqRqvKAAShQyaw3siv8AQz//2Q=="
)
DIGESTS = {
    "PNG": (
        "3e46d3a433fe89e6bd15134e732c11e7",
        "8e7ccabe9283480407062e50d0af2111",
        "c0838306e0c443ef",
        "f1dd7dcd56608dd7",
        (3, 4, 6),
    ),
    "cifar10": "756aa9d6c571efb1ae5fc0c7b8786221",
    "cifar10 tar": "f9e6e425f392d6f5b1e64c2ee99c05c6",  # a tar lists folders within classes in another order
    "jpeg": ("03b5e2860e7079a133b176fd0fe9c05d", "06b6c039f7177236e730cd91e3bc71bd", None, None, (3, 4, 6)),
    "opaque": (
        "6784e7c9486e3a2a5197ba7b515e5c19",
        "ed86e986d64c2fc2bdc6de7129d9f5f5",
        "44b7cdd9fa9aa8b2",
        "008e9acdd50a1bb7",
        (3, 4, 6),
    ),
    "pgm": (
        "665414bbe7abab4163119f7c4f5f180c",
        "8edf6fca05357470b499a1f7c31512b9",
        "055cc3153143cace",
        "e28d7010e015bdf1",
        (1, 4, 6),
    ),
    "png": (
        "3e46d3a433fe89e6bd15134e732c11e7",
        "8e7ccabe9283480407062e50d0af2111",
        "c0838306e0c443ef",
        "f1dd7dcd56608dd7",
        (3, 4, 6),
    ),
    "ppm": (
        "f2547aef54629b0df7c3056edff2bccb",
        "58afa89452550cbcafdecdaf931f1fd9",
        "c0838306e0c443ef",
        "f1dd7dcd56608dd7",
        (3, 4, 6),
    ),
}


def pixel_bytes(seed, n):
    """Bytes that no library's version changes."""
    return b"".join(hashlib.sha256(f"{seed} {i}".encode()).digest() for i in range(n // 32 + 1))[:n]


def ppm(seed, *, width=6, height=4):
    return b"P6 %d %d 255\n" % (width, height) + pixel_bytes(seed, 3 * width * height)


def pgm(seed, *, width=6, height=4):
    return b"P5 %d %d 255\n" % (width, height) + pixel_bytes(seed, width * height)


def png(seed, *, width=6, height=4, channels=3):
    return png_of(pixel_bytes(seed, channels * width * height), width=width, height=height, channels=channels)


def png_of(raw, *, width, height, channels):
    """Stored without compression, so that zlib's version does not matter."""
    step = channels * width
    rows = b"".join(b"\0" + raw[start : start + step] for start in range(0, len(raw), step))
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(rows), 0xFFFF ^ len(rows)) + rows
    stored += struct.pack(">I", zlib.adler32(rows))
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", stored), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write(tree, make, suffix, *, test="test"):
    for part in ("train", test):
        for label in ("cat", "dog"):
            for k, name in enumerate(("b", "a", "inner/c", "inner-2/d", "A")):
                path = tree / part / label / f"{name}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(make(f"{part} {label} {k}"))
    return tree


def opaque(seed):
    """With an alpha channel that hides nothing."""
    raw = bytearray(pixel_bytes(seed, 4 * 24))
    raw[3::4] = b"\xff" * 24
    return png_of(bytes(raw), width=6, height=4, channels=4)


MAKERS = {
    "ppm": (ppm, "ppm"),
    "pgm": (pgm, "pgm"),
    "png": (png, "png"),
    "PNG": (png, "PNG"),
    "opaque": (opaque, "png"),
    "jpeg": (lambda seed: JPEG, "JPEG"),
}


def digests_of(tmp_path, monkeypatch, kind):
    write(tmp_path / "pets", *MAKERS[kind])
    config = DataConfig(name="folder", root=str(tmp_path), folder="pets", workers=0)
    in_memory = load(config)
    monkeypatch.setattr(trees, "IN_MEMORY", 0)
    streamed = load(config)
    everything = torch.cat([part.pixels(torch.arange(10)) for part in (in_memory.train, in_memory.test)])
    if kind == "jpeg":  # libjpeg's versions may round differently
        return in_memory.digest, streamed.digest, None, None, in_memory.train.shape
    pixels = hashlib.sha256(everything.numpy().tobytes()).hexdigest()[:16]
    views = hashlib.sha256(streamed.train.pixels(torch.arange(10)).numpy().tobytes()).hexdigest()[:16]
    return in_memory.digest, streamed.digest, pixels, views, in_memory.train.shape


@pytest.mark.parametrize("kind", MAKERS)
def test_an_ordinary_tree_keeps_its_digest_and_its_pixels(tmp_path, monkeypatch, kind):
    assert digests_of(tmp_path, monkeypatch, kind) == DIGESTS[kind]


def test_a_tree_and_a_tar_of_a_published_dataset_keep_their_digest(tmp_path):
    def make(seed):
        return png(seed, width=32, height=32)

    tree = write(tmp_path / "cifar10", make, "png")
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / "cifar10-imagefolder.tar", "w") as archive:
        archive.add(tree, arcname="cifar10")
    for root, kind in ((tmp_path, "cifar10"), (tmp_path / "tar", "cifar10 tar")):
        assert load(DataConfig(name="cifar10", root=str(root), workers=0)).digest == DIGESTS[kind]
