"""Images as a pretrained model takes them: size, channels, normalisation; what is set counts more."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.config.schema import Config
from fkal.data import trees
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
    made_for = {"size": 224, "mean": None, "std": None}
    with pytest.raises(ValueError, match="made for 'lanczos' interpolation"):
        View.of(DataConfig(name="digits"), interpolation="lanczos", **made_for)
    set_here = DataConfig(name="digits", interpolation="nearest")
    assert View.of(set_here, interpolation="lanczos", **made_for).interpolation == "nearest"
    with pytest.raises(ValueError, match="'bilinear', 'bicubic' or 'nearest'"):
        Config.model_validate({"data": {"interpolation": "cubic"}})


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


@pytest.mark.parametrize("streamed", [False, True])
def test_own_trees_are_scaled_from_their_files_as_the_model_was_made_for(tmp_path, streamed, monkeypatch):
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            image = Image.fromarray(draws.integers(0, 256, (40, 40, 3), dtype=np.uint8))
            image.save(tmp_path / part / name / "1.png")
    if streamed:
        monkeypatch.setattr(trees, "IN_MEMORY", 0)
    config = DataConfig(name="folder", folder=str(tmp_path), workers=0)
    with Image.open(tmp_path / "train" / "a" / "1.png") as file:
        first = file.convert("RGB")
    digests, seen = set(), {}
    for how, resample in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        dataset = scaled_dataset(config, replace(VIEW, interpolation=how), load)
        digests.add(dataset.digest)
        seen[how] = dataset.train.pixels(torch.tensor([0]))[0]
        if not streamed:
            assert np.array_equal(seen[how].permute(1, 2, 0).numpy(), np.array(first.resize((16, 16), resample)))
    assert len(digests) == 2 and not torch.equal(seen["bicubic"], seen["bilinear"])
    plain = load(DataConfig(name="folder", folder=str(tmp_path), workers=0, image_size=16))
    assert plain.digest == load(replace(config, image_size=16, interpolation="bilinear")).digest in digests


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
