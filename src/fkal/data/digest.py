"""Digests of content: 32 hexadecimal digits that do not know paths or times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from jaxtyping import Int64, UInt8
from torch import Tensor

DIGEST_LENGTH = 32  # hexadecimal digits; the tracking store takes up to 36


def bytes_digest(chunks: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of the chunks' concatenation, its first 32 digits."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    return sha.hexdigest()[:DIGEST_LENGTH]


def header(kind: str, shape: Sequence[int], labels: Int64[Tensor, " n"], classes: Sequence[str]) -> bytes:
    """What an image set is besides its pixels, as unambiguous bytes."""
    facts = repr((kind, tuple(shape), len(labels), tuple(classes))).encode()
    return facts + b"\0" + labels.numpy().astype("<i8").tobytes()


def pixels_digest(pixels: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"], classes: Sequence[str]) -> str:
    """Of images held as pixels."""
    content = pixels.contiguous().numpy().reshape(-1).data
    return bytes_digest([header("pixels", pixels.shape[1:], labels, classes), content])


def files_digest(
    file_hashes: Iterable[bytes],
    shape: Sequence[int],
    labels: Int64[Tensor, " n"],
    classes: Sequence[str],
    *,
    has_new_pixels: bool = False,
    interpolation: str = "bilinear",
) -> str:
    """Of images held as files, by the SHA-256 of each, and of the decoded size.

    `has_new_pixels` says that some files give other pixels than they gave to the first decoder, which applied no
    EXIF orientation and ignored transparency.
    """
    kind = "files, upright and on white" if has_new_pixels else "files"
    kind += "" if interpolation == "bilinear" else f", {interpolation}"
    return bytes_digest([header(kind, shape, labels, classes), *file_hashes])
