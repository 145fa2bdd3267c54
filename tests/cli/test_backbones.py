"""Backbones on the command line: what the options set, and how a command ends without its weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from typer.testing import CliRunner

from fkal.cli.main import app


def run(*words: str):
    return CliRunner().invoke(app, [*words])


def config_of(*words: str) -> dict:
    result = run("config", "--preset", "digits", "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["config"]


def test_a_backbone_brings_its_default_weights_and_its_taps():
    config = config_of("--backbone", "resnet50")
    assert (config["model"]["name"], config["model"]["weights"]) == ("resnet50", "DEFAULT")
    assert config["acquisition"]["taps"] == ["layer3", "layer4"]


def test_other_weights_are_named_beside_a_backbone():
    assert config_of("--backbone", "resnet50", "--set", "model.weights=w.pth")["model"]["weights"] == "w.pth"


def test_an_exported_program_has_its_weights_in_it():
    config = config_of("--backbone", "body.pt2", "--set", "train.layers=frozen")
    assert config["model"]["weights"] is None and config["acquisition"]["taps"] == ["embedding"]


def test_taps_follow_a_model_that_is_frozen_and_one_that_no_longer_is():
    pytest.importorskip("timm")
    frozen = config_of("--backbone", "timm:test_resnet", "--set", "train.layers=frozen")
    whole = config_of("--backbone", "timm:test_resnet")
    assert frozen["acquisition"]["taps"] == ["embedding"]
    assert whole["acquisition"]["taps"] == ["layer3", "layer4"]


def test_own_embeddings_set_data_model_and_layers():
    config = config_of("--embeddings", "v.npz")
    chosen = config["data"]["name"], config["data"]["embeddings"], config["model"]["name"], config["train"]["layers"]
    assert chosen == ("embeddings", "v.npz", "linear", "frozen")


def test_own_embeddings_have_no_size_from_a_preset():
    result = run("config", "--preset", "cifar10-frozen", "--embeddings", "v.npz", "--json")
    assert json.loads(result.stdout)["config"]["data"]["image_size"] is None


@pytest.mark.parametrize(
    "assignment",
    ["data.image_size=64", "data.interpolation=bicubic", "data.mean=[0.5]", "data.std=[0.5]", "features.tokens=cls"],
)
def test_own_embeddings_refuse_what_only_images_have(tmp_path, assignment):
    parts = np.array(["train"] * 8 + ["test"] * 4)
    np.savez(tmp_path / "v.npz", features=np.eye(12, 4), labels=np.array(["owl", "cat"] * 6), parts=parts)
    dry_run = ("run", "--preset", "digits", "--dry-run", "--out", str(tmp_path))
    sizes = (
        "data.validation_per_class=1",
        "acquisition.budget=1",
        "acquisition.rounds=1",
        "bias.kind=none",
        "bias.ratio=1",
    )
    by_option = ("--embeddings", str(tmp_path / "v.npz"))
    by_settings = ("data.name=embeddings", f"data.embeddings={tmp_path / 'v.npz'}", "model.name=linear")

    def ended(words, settings):
        return run(*dry_run, *words, *(word for each in settings for word in ("--set", each)))

    result = ended(by_option, sizes)
    assert result.exit_code == 0, result.output
    key = assignment.partition("=")[0]
    for words, settings in ((by_option, sizes), ((), (*sizes, *by_settings, "train.layers=frozen"))):
        result = ended(words, (*settings, assignment))
        assert result.exit_code == 2 and key in result.stderr, result.output
        assert "leave it out" in result.stderr or "--embeddings and --set" in result.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--backbone", "resnet50", "--set", "model.name=lenet"), "contradict each other"),
        (("--backbone", "resnet50", "--embeddings", "v.npz"), "exclude each other"),
        (("--backbone", "resnet51"), "did you mean"),
        (("--set", "model.weights=' '"), "names nothing"),
    ],
)
def test_options_that_contradict_or_name_nothing_end_with_2(words, reason):
    result = run("config", "--preset", "digits", *words)
    assert result.exit_code == 2 and reason in result.stderr


class TestWeights:
    """A run that cannot have its weights says why in one line."""

    @pytest.fixture
    def frozen(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        def dry_run(*words: str):
            return run("run", "--preset", "digits", "--dry-run", "--set", "train.layers=frozen", *words)

        return dry_run

    def test_an_absent_file_ends_with_4(self, frozen):
        result = frozen("--backbone", "resnet18", "--set", "model.weights=none.pth")
        assert result.exit_code == 4 and "none.pth" in result.stderr and len(result.stderr.splitlines()) == 1

    def test_weights_of_another_model_end_with_2(self, frozen, tmp_path):
        other = torchvision.models.get_model("shufflenet_v2_x0_5")
        save_file({k: v.contiguous() for k, v in other.state_dict().items()}, tmp_path / "other.safetensors")
        result = frozen("--backbone", "resnet18", "--set", "model.weights=other.safetensors")
        assert result.exit_code == 2 and "not those of resnet18" in result.stderr

    def test_a_pickle_that_runs_code_ends_with_2_and_does_not_run(self, frozen, tmp_path):
        class Touches:
            def __reduce__(self):
                return Path.touch, (tmp_path / "ran",)

        torch.save({"w": Touches()}, tmp_path / "evil.pt")
        result = frozen("--backbone", "resnet18", "--set", "model.weights=evil.pt")
        assert result.exit_code == 2 and not (tmp_path / "ran").exists()

    def test_frozen_without_weights_ends_with_2(self, frozen):
        result = frozen("--set", "model.name=resnet18")
        assert result.exit_code == 2 and "--backbone NAME" in result.stderr
