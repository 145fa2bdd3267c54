"""Random views for training; every draw comes from a generator that is passed in."""

from __future__ import annotations

import math

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fkal.data.decoding import RESAMPLING
from fkal.data.settings import Interpolation

CROP_AREA = (0.1, 1.0)  # protocol, section 5
CROP_ASPECT = (0.8, 1.25)
CROP_TRIES = 10  # before the whole image is taken; such crops rarely miss
PADDING = 4


def child_seed(generator: torch.Generator) -> int:
    """One seed drawn from a generator."""
    return int(torch.randint(2**62, (), generator=generator))


def random_resized_crop(
    image: Image.Image, size: int, generator: torch.Generator, interpolation: Interpolation = "bilinear"
) -> Image.Image:
    """A box of 10 to 100 % of the area and aspect 0.8 to 1.25, scaled to size x size, flipped half of the time."""
    box = crop_box(*image.size, generator)
    view = image.resize((size, size), RESAMPLING[interpolation], box=box)
    flip = torch.rand((), generator=generator) < 0.5
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else view


def crop_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a random crop within width x height."""
    for _ in range(CROP_TRIES):
        u = torch.rand(4, generator=generator).tolist()
        area = width * height * (CROP_AREA[0] + u[0] * (CROP_AREA[1] - CROP_AREA[0]))
        aspect = CROP_ASPECT[0] * (CROP_ASPECT[1] / CROP_ASPECT[0]) ** u[1]  # log-uniform
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(u[2] * (width - w + 1)), int(u[3] * (height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height


def crop_flip(pixels: UInt8[Tensor, "b c h w"], generator: torch.Generator) -> UInt8[Tensor, "b c h w"]:
    """Shifted by up to 4 pixels against a black border and flipped half of the time, on the pixels' device."""
    b, c, h, w = pixels.shape
    device = pixels.device
    shift = torch.randint(2 * PADDING + 1, (2, b, 1), generator=generator)
    flip = torch.rand(b, 1, generator=generator) < 0.5
    across = torch.arange(w).expand(b, w)
    rows = (shift[0] + torch.arange(h)).to(device)  # (b h)
    columns = (shift[1] + torch.where(flip, across.flip(1), across)).to(device)  # (b w)
    padded = functional.pad(pixels, (PADDING,) * 4)
    images = torch.arange(b, device=device)[:, None, None, None]
    channels = torch.arange(c, device=device)[None, :, None, None]
    return padded[images, channels, rows[:, None, :, None], columns[:, None, None, :]]
