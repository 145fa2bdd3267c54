import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fkal.data.augmentation import CROP_AREA, CROP_ASPECT, PADDING, crop_box, crop_flip, random_resized_crop


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 99))
def test_a_crop_lies_within_the_image(width, height, seed):
    left, top, right, bottom = crop_box(width, height, torch.Generator().manual_seed(seed))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_crops_keep_to_the_protocols_areas_and_aspects():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([crop_box(400, 400, generator) for _ in range(500)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = w * h / 400**2, w / h
    assert CROP_AREA[0] - 0.01 < area.min() < 0.2 and area.max() > 0.9
    assert CROP_ASPECT[0] - 0.02 < aspect.min() < 0.85 and 1.2 < aspect.max() < CROP_ASPECT[1] + 0.02


def test_a_resized_crop_has_the_asked_size_and_is_sometimes_flipped():
    ramp = Image.fromarray(torch.arange(256, dtype=torch.uint8).expand(256, 256).numpy())
    generator = torch.Generator().manual_seed(0)
    views = [random_resized_crop(ramp, 16, generator) for _ in range(40)]
    assert {view.size for view in views} == {(16, 16)}
    flipped = sum(view.getpixel((0, 0)) > view.getpixel((15, 0)) for view in views)
    assert 8 < flipped < 32


def test_a_batch_is_shifted_and_flipped_image_by_image():
    pixels = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(200, 2, 8, 8)
    views = crop_flip(pixels, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(pixels[0, 0], (PADDING,) * 4)
    possible = {
        tuple(window.flip(1).flatten().tolist() if flip else window.flatten().tolist())
        for top in range(2 * PADDING + 1)
        for left in range(2 * PADDING + 1)
        for flip in (False, True)
        for window in [padded[top : top + 8, left : left + 8]]
    }
    seen = {tuple(view.flatten().tolist()) for view in views[:, 0]}
    assert seen <= possible and len(seen) > 50
    assert torch.equal(views[:, 0], views[:, 1])
