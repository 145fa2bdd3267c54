"""JPEG files decoded by a GPU; what it cannot decode as the one decoder does, that decoder decodes."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from fkal.data.decoding import decode, evaluation_side, is_plain_jpeg, pixels_of
from fkal.data.errors import CorruptImage
from fkal.data.files import ImageSource
from fkal.data.settings import Interpolation
from fkal.errors import first_line

SeenAs = Literal["evaluation", "covering"]
"""The central crop of an image that is somewhat larger, or the largest square of it."""


class FileOnItsWay(NamedTuple):
    """A file that the GPU is to decode, or what the CPU has decoded."""

    path: str
    jpeg: bytes | None
    pixels: UInt8[Tensor, "3 h w"] | None


@dataclass(frozen=True)
class FileBytes:
    """For the loader: a request (indices, None) -> the files, or what is wrong with one of them."""

    files: ImageSource

    def __getitem__(self, request: tuple[list[int], int | None]) -> list[FileOnItsWay] | CorruptImage:
        try:
            return [_read(self.files.bytes_of(index), self.files.path(index)) for index in request[0]]
        except CorruptImage as error:
            return error


def gpu_views(
    files: list[FileOnItsWay], size: int, seen_as: SeenAs, interpolation: Interpolation, device: torch.device
) -> Float[Tensor, "b 3 s s"]:
    """What evaluation sees of the files, as whole values from 0 to 255. Raises CorruptImage."""
    jpegs = [file.jpeg for file in files if file.jpeg is not None]
    try:
        decoded = iter(_decoded(jpegs, device) if jpegs else [])
    except RuntimeError:
        decoded = iter([_decoded_alone(file, device) for file in files if file.jpeg is not None])
    pixels = [next(decoded) if file.pixels is None else file.pixels.to(device) for file in files]
    return torch.stack([_view(each, size, seen_as, interpolation) for each in pixels])


def why_not(device: torch.device) -> str | None:
    """Why this device decodes no JPEG files, in a line; None where it does."""
    if device.type != "cuda":
        return f"{device.type} decodes no JPEG files"
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "JPEG")
    try:
        gpu_views([_read(data.getvalue(), "a blank image")], 8, "evaluation", "bilinear", device)
    except (CorruptImage, RuntimeError, ImportError) as error:
        return first_line(error)
    return None


def _read(data: bytes, path: str) -> FileOnItsWay:
    if is_plain_jpeg(data):
        return FileOnItsWay(path, data, None)
    return FileOnItsWay(path, None, pixels_of(decode(data, path).image.convert("RGB")))


def _decoded_alone(file: FileOnItsWay, device: torch.device) -> UInt8[Tensor, "3 h w"]:
    """By the GPU, or, so that a broken file has its name and its flaw, by the one decoder."""
    assert file.jpeg is not None
    try:
        return _decoded([file.jpeg], device)[0]
    except RuntimeError as error:
        try:
            decoded = decode(file.jpeg, file.path)
        except CorruptImage as flawed:
            raise flawed from error
        return pixels_of(decoded.image.convert("RGB")).to(device)


def _decoded(jpegs: list[bytes], device: torch.device) -> list[Tensor]:
    """At least one, all in one go. Raises RuntimeError for a file that it does not decode."""
    from torchvision.io import ImageReadMode, decode_jpeg

    files = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in jpegs]
    with warnings.catch_warnings():  # torchvision means to leave decoding to another package some day
        warnings.simplefilter("ignore", DeprecationWarning)
        found: list[Tensor] = decode_jpeg(files, device=device, mode=ImageReadMode.RGB)
    return found


def _view(
    pixels: UInt8[Tensor, "3 h w"], size: int, seen_as: SeenAs, interpolation: Interpolation
) -> Float[Tensor, "3 s s"]:
    height, width = pixels.shape[1:]
    if seen_as == "covering":
        side = min(height, width)
        pixels = _centre(pixels, side)
        scaled = (size, size)
    else:
        scale = evaluation_side(size) / min(height, width)
        scaled = (max(size, round(height * scale)), max(size, round(width * scale)))
    smooth = interpolation != "nearest"
    values = interpolate(pixels[None].float(), size=scaled, mode=interpolation, antialias=smooth)[0]
    return _centre(values, size).round_().clamp_(0, 255)


def _centre(pixels: Tensor, side: int) -> Tensor:
    height, width = pixels.shape[1:]
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, top : top + side, left : left + side]
