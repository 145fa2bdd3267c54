"""Contact sheets."""

from dataclasses import replace

import pytest
import torch

from fkal.data.images import TensorImages
from fkal.engine.rounds import Selection
from fkal.tracking.contact_sheet import MOST, contact_sheet


def images(channels: int, height: int, width: int, n: int = 12) -> TensorImages:
    pixels = torch.randint(256, (n, channels, height, width), dtype=torch.uint8)
    return TensorImages(pixels, torch.arange(n) % 3, ("a", "b" * 60, "日本"), mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 48), (3, 300, 224), (4, 9, 9), (1, 1, 1)])
def test_every_shape_of_image_is_drawn(shape):
    chosen = torch.tensor([3, 1, 2])
    selection = Selection(chosen, chosen % 3, matches=torch.tensor([5, 5, 6]), pseudo_labels=torch.tensor([0, 0, 0]))
    sheet = contact_sheet(images(*shape), selection, "title")
    assert sheet.mode == "RGB"
    assert sheet.getextrema() != ((255, 255),) * 3


def test_the_pick_stands_left_of_its_match():
    pixels = torch.tensor([10, 200], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 8, 8)
    pool = TensorImages(pixels, torch.tensor([0, 1]), ("a", "b"), mean=(0.5,), std=(0.5,))
    sheet = contact_sheet(pool, Selection(torch.tensor([1]), torch.tensor([1]), matches=torch.tensor([0])), "")
    middle = [sheet.getpixel((x, 80))[0] for x in range(10, 141)]
    assert middle[:64] == [200] * 64
    assert middle[67:] == [10] * 64


def test_a_large_selection_shows_its_first_picks():
    pool = images(1, 8, 8, n=500)
    chosen = torch.arange(500)
    many = contact_sheet(pool, Selection(chosen, chosen % 3), "")
    some = contact_sheet(pool, Selection(chosen[:MOST], chosen[:MOST] % 3), "")
    assert many.size == some.size


def test_an_empty_selection_is_a_title():
    none = torch.empty(0, dtype=torch.long)
    sheet = contact_sheet(images(1, 8, 8), replace(Selection(none, none), matches=none), "nothing")
    assert sheet.width >= 640
