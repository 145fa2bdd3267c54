"""Images as a pretrained model takes them: size, channels, normalisation; what is set counts more."""

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.data.datasets import load
from fkal.data.images import TensorImages
from fkal.data.scaling import ScaledImages, View, scaled_dataset
from fkal.data.settings import DataConfig

VIEW = View(16, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


def grey(n: int = 4) -> TensorImages:
    pixels = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorImages(pixels, torch.arange(n) % 2, "ab", mean=(0.5,), std=(0.5,))


def test_grey_images_are_repeated_to_three_channels_before_they_are_normalised():
    images = ScaledImages(grey(), View(8, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    (batch,) = images.batches([torch.arange(4)], device="cpu")
    raw = grey().pixels(torch.arange(4)).float() / 255
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.2, 0.1])
    expected = (raw.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(batch, expected, atol=1e-5, rtol=1e-5)


def test_images_are_scaled_to_the_models_size_and_stay_in_range():
    images = ScaledImages(grey(), VIEW)
    (batch,) = images.batches([torch.arange(4)], device="cpu")
    assert images.shape == batch.shape[1:] == (3, 16, 16)
    values = batch * torch.tensor(VIEW.std)[:, None, None] + torch.tensor(VIEW.mean)[:, None, None]
    assert values.min() >= -1e-5 and values.max() <= 1 + 1e-5
    assert images.digest == grey().digest and images.pixels(torch.tensor([1])).shape == (1, 1, 8, 8)


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="lanczos"):
        ScaledImages(grey(), View(16, "lanczos", (0.5,), (0.5,)))


def test_what_is_set_counts_more_than_what_the_model_was_made_for():
    made_for = {"size": 224, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    set_here = DataConfig(name="digits", image_size=32, mean=(0.1,), std=(0.9,))
    assert View.of(set_here, **made_for) == View(32, "bicubic", (0.1,), (0.9,))
    assert View.of(DataConfig(name="digits"), **made_for) == View(224, "bicubic", (0.5,) * 3, (0.5,) * 3)
    unsaid = {"size": None, "interpolation": "bilinear", "mean": None, "std": None}
    assert View.of(DataConfig(name="digits"), **unsaid) == View(None, "bilinear", (0.305,) * 3, (0.376,) * 3)


def test_published_images_keep_their_digest(tmp_path):
    plain, seen = load(DataConfig(name="digits")), scaled_dataset(DataConfig(name="digits", image_size=32), VIEW, load)
    assert seen.digest == plain.digest and seen.train.shape == (3, 16, 16)


def test_a_tree_of_transparent_and_grey_files_becomes_three_channels(tmp_path):
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, mode, channels in (("a", "RGBA", 4), ("b", "L", 0)):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for n in range(3):
                shape = (20, 24, channels) if channels else (20, 24)
                Image.fromarray(draws.integers(0, 256, shape, dtype=np.uint8), mode).save(folder / f"{n}.png")
    config = DataConfig(name="folder", folder=str(tmp_path), workers=0)
    seen = scaled_dataset(config, VIEW, load)
    (batch,) = seen.train.batches([torch.arange(6)], device="cpu")
    assert batch.shape == (6, 3, 16, 16) and bool(batch.isfinite().all())
