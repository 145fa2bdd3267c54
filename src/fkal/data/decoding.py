"""From the bytes of an image file to pixels: one decoder for all image files.

An image comes out as 8-bit grey (L) or RGB. Its EXIF orientation is applied. CMYK and palettes become RGB. What is
transparent shows white, as on paper. Grey of 16 bits is divided by 257; colour of 16 bits keeps its high byte, since
Pillow reads no more of it. Of several frames or pages the first is taken.
"""

from __future__ import annotations

import importlib
import io
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fkal.data.errors import CorruptImage, Flaw, printable
from fkal.data.settings import Interpolation

# Pillow's decoders that read pixels and nothing else; others start programs or open further files.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
LARGEST_PIXELS = 178_956_970  # width x height; Pillow's own limit for what it calls a decompression bomb
GREY_MODES = ("1", "L", "LA", "La")
SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
RESAMPLING: Mapping[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
EVALUATION_SCALE = 256 / 224  # the shorter side before the centre crop, to the crop's side
ORIENTATION_TAG, WIDTH_TAG, HEIGHT_TAG = 0x0112, 0x0100, 0x0101
UPRIGHT = 1
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
START_OF_SCAN, EXIF_SEGMENT, ADOBE_SEGMENT = 0xDA, 0xE1, 0xEE
SIDES_SWAPPED = (5, 6, 7, 8)
REASON_SHOWN = 200  # characters of a decoder's own words

# LARGEST_PIXELS is the bound; Pillow warns at half of it.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Change(IntFlag):
    """What the decoder did to an image besides reading it."""

    ORIENTED = 1
    COMPOSITED = 2
    FROM_CMYK = 4
    FROM_16_BITS = 8
    FIRST_FRAME = 16
    FITTED = 32


UNCHANGED = Change(0)
CHANGE_WORDS = {
    Change.ORIENTED: "turned by EXIF orientation",
    Change.COMPOSITED: "with transparency put on white",
    Change.FROM_CMYK: "converted from CMYK",
    Change.FROM_16_BITS: "reduced from 16 bits",
    Change.FIRST_FRAME: "read as the first of several frames",
    Change.FITTED: "scaled and cropped to the size of the others",
}
NEW_PIXELS = Change.ORIENTED | Change.COMPOSITED
"""Changes that give other pixels than the file's bytes gave before they were made; a data digest knows of them."""


@dataclass(frozen=True)
class Decoded:
    """An image in mode L (grey) or RGB, what was changed, and the format of the file."""

    image: Image.Image
    changes: Change
    format: str


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say: its size once it is upright, and whether it has transparency."""

    width: int
    height: int
    changes: Change
    may_be_transparent: bool


def decode(data: bytes, name: str, *, at_least: int | None = None) -> Decoded:
    """The image of a file's bytes; raises CorruptImage with its name, its flaw and the reason.

    A JPEG file of which `at_least` so many pixels a side are wanted comes at 1/2, 1/4 or 1/8 of its size where that
    is enough.
    """
    with _named_flaws(name, data[:1]):
        image = _opened(io.BytesIO(data))
        orientation = _orientation(image)
        if at_least is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (at_least, at_least))
        image.load()
        if image.format != "TIFF":  # Pillow turns TIFF while it loads; PNG may have its EXIF at the end
            orientation = _orientation(image)
        changes = _frame_and_mode_changes(image) | (UNCHANGED if orientation == UPRIGHT else Change.ORIENTED)
        plain, is_composited = _eight_bits(image)
        if image.format != "TIFF" and orientation != UPRIGHT:
            plain = plain.transpose(TURNED[orientation])
        changes |= Change.COMPOSITED if is_composited else UNCHANGED
        return Decoded(plain, changes, image.format or "unknown")


def header(file: io.BytesIO | io.BufferedReader, name: str) -> Header:
    """Read from the header alone: no pixels are decoded. Raises CorruptImage as `decode` does."""
    start = file.tell()
    first = file.read(1)
    file.seek(start)
    with _named_flaws(name, first):
        image = _opened(file)
        orientation = _orientation(image)
        width, height = _stored_size(image)
        if orientation in SIDES_SWAPPED:
            width, height = height, width
        turned = UNCHANGED if orientation == UPRIGHT else Change.ORIENTED
        return Header(width, height, turned | _frame_and_mode_changes(image), image.has_transparency_data)


def is_plain_jpeg(data: bytes) -> bool:
    """Whether no segment before its pixels could turn it or make it CMYK; most files of a large dataset are such."""
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while data[at : at + 1] == b"\xff" and len(data) > at + 3:
        marker = data[at + 1]
        if marker == START_OF_SCAN:
            return True
        if marker in (EXIF_SEGMENT, ADOBE_SEGMENT, 0xFF):
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def corrupt_image(name: str, flaw: Flaw, reason: str) -> CorruptImage:
    """The error of one file."""
    return CorruptImage(corruption([(name, reason)]), flaw, reason)


def corruption(flawed: Iterable[tuple[str, str]], *, shown: int = 5) -> str:
    """The message of a CorruptImage for (name, reason) pairs."""
    pairs = list(flawed)
    names = ", ".join(printable(name) for name, _ in pairs[:shown])
    more = f" and {len(pairs) - shown} more" if len(pairs) > shown else ""
    reasons = "; ".join(dict.fromkeys(reason for _, reason in pairs[:shown]))
    them = "them" if len(pairs) > 1 else "it"
    return f"cannot decode {names}{more}: {reasons}; replace {them} by readable images or remove {them}"


def described_changes(changes: Iterable[Change]) -> list[str]:
    """How many images were changed in which way, for people."""
    counts = dict.fromkeys(CHANGE_WORDS, 0)
    for change in changes:
        for kind in CHANGE_WORDS if change else ():
            counts[kind] += bool(change & kind)
    return [f"{n:,} {CHANGE_WORDS[kind]}" for kind, n in counts.items() if n]


def fitted(image: Image.Image, height: int, width: int, interpolation: Interpolation = "bilinear") -> Image.Image:
    """Scaled to cover (height, width), then cropped around the centre; as it is where it fits already."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), method=RESAMPLING[interpolation])


def evaluation_view(image: Image.Image, size: int, interpolation: Interpolation = "bilinear") -> Image.Image:
    """The shorter side scaled to 256/224 of `size`, then the central size x size."""
    width, height = image.size
    scale = evaluation_side(size) / min(width, height)
    scaled = image.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), RESAMPLING[interpolation]
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def evaluation_side(size: int) -> int:
    """Pixels of the shorter side before the centre crop."""
    return round(size * EVALUATION_SCALE)


def covering_view(image: Image.Image, size: int, interpolation: Interpolation = "bilinear") -> Image.Image:
    """Scaled to cover size x size, then cropped around the centre, as files are that fit into memory."""
    return fitted(image, size, size, interpolation)


def pixels_of(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    """Channels first."""
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


class _Flawed(Exception):
    """A flaw that the decoder finds itself."""

    def __init__(self, flaw: Flaw, reason: str) -> None:
        super().__init__(reason)
        self.flaw = flaw


@contextmanager
def _named_flaws(name: str, first: bytes) -> Iterator[None]:
    """Turns whatever a decoder raises into a CorruptImage; broken input makes Pillow raise a dozen kinds."""
    try:
        yield
    except _Flawed as error:
        raise corrupt_image(name, error.flaw, str(error)) from error
    except Exception as error:
        raise corrupt_image(name, *_flaw_of(error, first)) from error


def _flaw_of(error: Exception, first: bytes) -> tuple[Flaw, str]:
    if not first:
        return Flaw.EMPTY, "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return Flaw.UNKNOWN_FORMAT, f"not an image file ({', '.join(FORMATS)} are read)"
    if isinstance(error, Image.DecompressionBombError):
        told = re.search(r"\d+", str(error))
        return Flaw.TOO_LARGE, _too_many_pixels(int(told[0]) if told else None)
    reason = printable(" ".join(str(error).split()))[:REASON_SHOWN]
    return Flaw.BROKEN, reason or type(error).__name__


def _too_many_pixels(n: int | None) -> str:
    count = "" if n is None else f"{n:,} pixels, "
    return f"{count}more than the limit of 179 megapixels ({LARGEST_PIXELS:,})"


def _opened(file: io.BytesIO | io.BufferedReader) -> Image.Image:
    """Identified by its content, whatever its name; not decoded yet."""
    start = file.tell()
    head = file.read(12)
    file.seek(start)
    is_heif = head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS
    image: Image.Image = Image.open(file, formats=_heif_formats() if is_heif else FORMATS)
    if image.width * image.height > LARGEST_PIXELS:
        raise _Flawed(Flaw.TOO_LARGE, _too_many_pixels(image.width * image.height))
    return image


def _heif_formats() -> tuple[str, ...]:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise _Flawed(
            Flaw.NEEDS_PACKAGE, "HEIC images need the package pillow-heif (pip install pillow-heif)"
        ) from error
    return ("HEIF",)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) before the orientation is applied; Pillow's versions differ in which they give for TIFF."""
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[WIDTH_TAG]), int(tags[HEIGHT_TAG]))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    tags = getattr(image, "tag_v2", None)
    exif = image.info.get("exif")
    if tags is not None:
        found = tags.get(ORIENTATION_TAG, UPRIGHT)
    else:
        found = _exif_orientation(exif) if isinstance(exif, bytes) else UPRIGHT
    return found if found in TURNED else UPRIGHT


def _exif_orientation(exif: bytes) -> int:
    """From the first directory of EXIF's TIFF structure; Pillow's reader warns at the slightest damage elsewhere."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return UPRIGHT
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(entries):
            tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * entry)
            if tag == ORIENTATION_TAG:
                return int(value) if (kind, count) == (3, 1) else UPRIGHT
    except struct.error:  # cut off: the picture is whole all the same, and viewers show it as it is stored
        return UPRIGHT
    return UPRIGHT


def _frame_and_mode_changes(image: Image.Image) -> Change:
    """A second picture in a JPEG is a preview or a depth map, and no frame."""
    changes = UNCHANGED
    if image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False):
        changes |= Change.FIRST_FRAME
    if image.mode == "CMYK":
        changes |= Change.FROM_CMYK
    if _has_16_bits(image):
        changes |= Change.FROM_16_BITS
    return changes


def _has_16_bits(image: Image.Image) -> bool:
    """PGM of more than 8 bits comes as 32-bit integers."""
    return image.mode in SIXTEEN_BIT_MODES or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _eight_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """The loaded image in mode L or RGB, and whether anything transparent was put on white."""
    if _has_16_bits(image):
        return _from_16_bits(image)
    if image.mode == "F" or image.mode.startswith("I"):
        raise _Flawed(Flaw.UNSUPPORTED_PIXELS, f"its pixels have mode {image.mode}, not 8 or 16 bits")
    grey = image.mode in GREY_MODES
    if image.has_transparency_data:
        return _on_white(image.convert("LA" if grey else "RGBA"), "L" if grey else "RGB")
    if image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("L" if grey else "RGB"), False


def _from_16_bits(image: Image.Image) -> tuple[Image.Image, bool]:
    """Divided by 257, which takes 65,535 to 255, and rounded."""
    values = np.array(image).astype(np.uint32)
    eight = ((values + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return Image.fromarray(eight), False
    eight[values == transparent] = 255
    return Image.fromarray(eight), bool((values == transparent).any())


def _on_white(image: Image.Image, mode: str) -> tuple[Image.Image, bool]:
    """From mode LA or RGBA; an image that hides nothing keeps its values."""
    alpha = image.getchannel("A")
    plain = image.convert(mode)
    if alpha.getextrema()[0] == 255:
        return plain, False
    white = Image.new(mode, image.size, 255 if mode == "L" else (255, 255, 255))
    white.paste(plain, mask=alpha)
    return white, True
