"""The images of experiments: found as the model took them, pretrained ones too."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.schema import Config
from fkal.data.datasets import Dataset
from fkal.experiment.experiment import prepare
from fkal.report.datasets import dataset_of, images_at_hand

MODEL = "shufflenet_v2_x0_5"


@pytest.fixture
def weights(tmp_path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(MODEL)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


@pytest.fixture
def photos(tmp_path) -> Path:
    drawn = np.random.default_rng(0)
    for part, images in (("train", 12), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(images):
                Image.fromarray(drawn.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


def frozen(name: str, weights: Path, **more) -> Config:
    chosen = {"device": "cpu", "train.layers": "frozen", "model.name": f"torchvision:{MODEL}", "model.weights": weights}
    return merged(
        [from_file(preset(name), name), from_assignments([f"{k}={v}" for k, v in {**chosen, **more}.items()])]
    )


def test_published_images_of_a_pretrained_model_are_found(tmp_path, weights):
    config = frozen("digits", weights, **{"data.image_size": 32})
    experiment = prepare(config, tmp_path, [].append)
    found = images_at_hand(config, {experiment.dataset.digest})
    assert isinstance(found, Dataset) and found.train.shape == (3, 32, 32)
    assert "others than those" in images_at_hand(config, {"0" * 32})


def test_they_are_looked_for_below_a_data_root_that_is_named(tmp_path, photos):
    config = merged([from_file(preset("folder"), "folder"), from_assignments(["data.folder=photos"])])
    finished = SimpleNamespace(outcome=SimpleNamespace(config=config), split=None)
    found = dataset_of([finished], photos.parent)
    assert isinstance(found, Dataset) and found.classes == ("cat", "dog")
    assert isinstance(dataset_of([finished], tmp_path / "elsewhere"), str)


def test_own_images_of_a_pretrained_model_are_found(tmp_path, weights, photos):
    config = frozen(
        "folder", weights, **{"data.folder": photos, "data.validation_per_class": 2, "acquisition.rounds": 1}
    )
    experiment = prepare(config, tmp_path, [].append)
    found = images_at_hand(config, {experiment.dataset.digest})
    assert isinstance(found, Dataset) and found.train.shape == experiment.dataset.train.shape == (3, 224, 224)


def test_images_whose_weights_are_gone_are_not_at_hand(weights):
    config = frozen("digits", weights)
    weights.unlink()
    assert "weights of torchvision:shufflenet_v2_x0_5" in images_at_hand(config, ())
