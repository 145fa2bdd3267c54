"""From the bytes of an image file to pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fkal.data.errors import CorruptImage

GREY_MODES = ("1", "L", "LA")
# What PIL's decoders raise at broken input.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
EVALUATION_SCALE = 256 / 224  # the shorter side before the centre crop, to the crop's side


def decoded(data: bytes, name: str) -> Image.Image:
    """The image in mode L (grey) or RGB; raises CorruptImage with its name."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        image.load()
    except BROKEN as error:
        raise CorruptImage(corruption([name], _reason(error, data))) from error
    if image.mode == "F" or image.mode.startswith("I"):
        raise CorruptImage(corruption([name], f"its pixels have mode {image.mode}, not 8 bits"))
    if image.mode == "P":
        image = image.convert("RGBA")  # else PIL warns at palettes with transparency
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def corruption(names: list[str], reason: str, *, shown: int = 5) -> str:
    """The message of a CorruptImage."""
    listed = ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
    them = "them" if len(names) > 1 else "it"
    return f"cannot decode {listed}: {reason}; replace {them} by readable 8-bit images or remove {them}"


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scaled to cover (height, width), then cropped around the centre; as it is where it fits already."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)


def evaluation_view(image: Image.Image, size: int) -> Image.Image:
    """The shorter side scaled to 256/224 of `size`, then the central size x size."""
    width, height = image.size
    scale = round(size * EVALUATION_SCALE) / min(width, height)
    scaled = image.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BILINEAR
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def pixels_of(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    """Channels first."""
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image file"
    return str(error) or type(error).__name__
