"""What was picked, for the eye: thumbnails, each beside the validation image that it was matched with."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fkal.data.images import ImageSet
from fkal.engine.rounds import Selection

MOST = 100  # picks on a sheet
SIDE = 64  # pixels of a thumbnail, about
NARROWEST = 84  # pixels of a cell, so that its caption has room
CAPTION, MARGIN, GAP = 16, 10, 3
WHITE, INK, WRONG = (255, 255, 255), (51, 51, 51), (192, 57, 0)


@dataclass(frozen=True)
class _Cell:
    images: tuple[Image.Image, ...]
    caption: str
    wrong: bool  # the pseudo-label


def contact_sheet(images: ImageSet, selection: Selection, title: str) -> Image.Image:
    """The first picks in their order; a caption is red where the pseudo-label was wrong."""
    shown = min(len(selection.indices), MOST)
    cells = _cells(images, selection, shown)
    width = max((sum(i.width for i in c.images) + GAP * (len(c.images) - 1) for c in cells), default=SIDE)
    width = max(width, NARROWEST)
    height = max((c.images[0].height for c in cells), default=SIDE)
    lines = [title, *_legend(selection, shown)]
    columns = max(1, min(len(cells), 10 if selection.matches is None else 8))
    head = MARGIN + (CAPTION + 2) * len(lines) + MARGIN
    step_x, step_y = width + 2 * MARGIN, height + CAPTION + MARGIN
    size = max(columns * step_x + MARGIN, 640), head + ceil(len(cells) / columns) * step_y + MARGIN
    sheet = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(sheet)
    for row, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + row * (CAPTION + 2)), line, fill=INK, font=caption_font(13))
    for place, cell in enumerate(cells):
        corner = MARGIN + place % columns * step_x, head + place // columns * step_y
        _draw_cell(sheet, draw, cell, corner, width)
    return sheet


def _cells(images: ImageSet, selection: Selection, shown: int) -> list[_Cell]:
    picked = thumbnails(images, selection.indices[:shown])
    matched = None if selection.matches is None else thumbnails(images, selection.matches[:shown])
    labels = selection.labels[:shown].tolist()
    guesses = labels if selection.pseudo_labels is None else selection.pseudo_labels[:shown].tolist()
    cells = []
    for place, (label, guess) in enumerate(zip(labels, guesses, strict=True)):
        pair = (picked[place],) if matched is None else (picked[place], matched[place])
        doubt = "" if guess == label else f", not {images.classes[guess]}"
        cells.append(_Cell(pair, f"{place + 1}. {images.classes[label]}{doubt}", guess != label))
    return cells


def _legend(selection: Selection, shown: int) -> list[str]:
    total = len(selection.indices)
    what = f"the {total} images picked" if shown == total else f"the first {shown} of {total} images picked"
    beside = "" if selection.matches is None else ", each left of the validation image that it was matched with"
    lines = [f"{what}, in order{beside}"]
    if selection.pseudo_labels is not None:
        lines.append("caption: true label; red where the pseudo-label was another one (“not ...”)")
    return lines


def thumbnails(images: ImageSet, indices: Int[Tensor, " n"]) -> list[Image.Image]:
    """Equal indices are read once."""
    unique, place = torch.unique(indices, return_inverse=True)
    if not len(unique):
        return []
    thumbnails = [_thumbnail(pixels) for pixels in images.pixels(unique)]
    return [thumbnails[i] for i in place.tolist()]


def _thumbnail(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    """Small images grow by a whole factor, so that their pixels stay sharp; large ones shrink."""
    if pixels.shape[0] not in (1, 3):
        pixels = pixels.float().mean(0, keepdim=True).to(torch.uint8)
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).convert("RGB")
    longest = max(image.size)
    if longest > SIDE:
        image.thumbnail((SIDE, SIDE))
        return image
    factor = max(1, SIDE // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _draw_cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, corner: tuple[int, int], width: int) -> None:
    x, y = corner
    for image in cell.images:
        sheet.paste(image, (x, y))
        x += image.width + GAP
    font = caption_font(11)
    caption = _fitted(cell.caption, font, width + 2 * MARGIN - 4)
    below = y + max(image.height for image in cell.images) + 1
    draw.text((corner[0], below), caption, fill=WRONG if cell.wrong else INK, font=font)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@lru_cache(maxsize=8)
def caption_font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own font: there wherever matplotlib is, and it knows most scripts' letters. Read once a size."""
    from matplotlib import get_data_path

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
