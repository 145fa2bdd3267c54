"""The trained model on new images, and as a file."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from fkal.errors import ConfigError, LabelsMissing, MissingPackage
from fkal.labeling.learner import Learner
from fkal.labeling.predicting import TrainedModel, export_model, known_format, predict
from fkal.labeling.rounds import select, train, watched
from fkal.labeling.trainings import read_round, trainings
from fkal.models.registry import build, head_name, resnet10
from fkal.notify import PLAIN


@pytest.fixture(params=["from scratch", "frozen"])
def trained(signs, weights, request):
    made = signs(backbone=weights if request.param == "frozen" else "")
    made.answer(select(made.project).batch)
    train(made.again())
    return made


def test_predictions_are_those_of_the_trained_model_and_flawed_files_have_no_label(trained, tmp_path):
    pool = trained.project.folder.parent / "images"
    (pool / "broken.png").write_bytes(b"no image")
    found = predict(trained.again(), str(pool), tmp_path / "out.parquet")
    rows = {row["path"]: row for row in pq.read_table(found.path).to_pylist()}
    assert (found.images, found.unreadable, len(rows)) == (48, 1, 49)
    assert rows["broken.png"]["label"] is None and rows["broken.png"]["flaw"]
    project = trained.again()
    weights = read_round(project, trainings(project)[-1]).weights
    learner = watched(Learner.ready(project, project.config(), PLAIN), PLAIN, "signs")
    p = watched(learner.probabilities(weights, torch.arange(48)), PLAIN, "signs").max(dim=1)
    for row, path in enumerate(project.pool.paths):
        assert rows[path]["label"] == project.classes[int(p.indices[row])]
        assert rows[path]["probability"] == pytest.approx(float(p.values[row]), abs=1e-5)


def test_without_a_trained_model_nothing_is_predicted(signs, tmp_path):
    made = signs()
    with pytest.raises(LabelsMissing, match="run fkal train"):
        predict(made.project, str(tmp_path), tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("trained", ["from scratch"], indirect=True)
def test_an_exported_model_gives_the_same_outputs_with_its_classes_and_preprocessing(trained, tmp_path):
    path = export_model(trained.again(), tmp_path / "model.safetensors", "safetensors")
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["fkal"])
    assert about["classes"] == list(trained.project.classes)
    said = about["preprocessing"]
    model = build(about["model"], (said["channels"], *said["size"]), len(about["classes"]))
    model.load_state_dict({name.removeprefix("0."): value for name, value in load_file(path).items()})
    name = trained.project.pool.paths[0]
    pixels = np.asarray(Image.open(trained.project.folder.parent / "images" / name)).transpose(2, 0, 1)
    mean, std = (torch.tensor(said[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        p = model.eval()((torch.from_numpy(pixels.copy())[None] / 255 - mean) / std).softmax(dim=1)
    found = predict(trained.again(), str(trained.project.folder.parent / "images"), tmp_path / "out.parquet")
    row = next(row for row in pq.read_table(found.path).to_pylist() if row["path"] == name)
    assert row["label"] == about["classes"][int(p.argmax())]
    assert row["probability"] == pytest.approx(float(p.max()), abs=1e-5)


@pytest.mark.parametrize("trained", ["frozen"], indirect=True)
def test_an_exported_frozen_model_is_its_backbone_and_a_linear_head(trained, tmp_path):
    tensors = load_file(export_model(trained.again(), tmp_path / "model.safetensors", "safetensors"))
    body = resnet10((3, 16, 16), 3)
    body.set_submodule(head_name(body), torch.nn.Identity())
    body.load_state_dict(
        {name.removeprefix("0.body."): value for name, value in tensors.items() if name.startswith("0.body.")}
    )
    said = TrainedModel.of(trained.again(), PLAIN).preprocessing
    name = trained.project.pool.paths[0]
    pixels = np.asarray(Image.open(trained.project.folder.parent / "images" / name)).transpose(2, 0, 1)
    mean, std = (torch.tensor(said[key]).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        features = body.eval()((torch.from_numpy(pixels.copy())[None] / 255 - mean) / std)
        p = (features @ tensors["1.weight"].T + tensors["1.bias"]).softmax(dim=1)
    found = predict(trained.again(), str(trained.project.folder.parent / "images"), tmp_path / "out.parquet")
    row = next(row for row in pq.read_table(found.path).to_pylist() if row["path"] == name)
    assert row["label"] == trained.project.classes[int(p.argmax())]
    assert row["probability"] == pytest.approx(float(p.max()), abs=1e-5)


def test_an_onnx_file_needs_its_packages(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingPackage, match=r"fkal\[onnx\]"):
        export_model(trained.again(), tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_gives_the_same_probabilities(trained, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra fkal[onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra fkal[onnx]")
    from onnx.reference import ReferenceEvaluator

    path = export_model(trained.again(), tmp_path / "model.onnx", "onnx")
    network = TrainedModel.of(trained.again(), PLAIN).network()
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    (p,) = ReferenceEvaluator(str(path)).run(None, {"images": x.numpy()})
    with torch.no_grad():
        assert torch.from_numpy(p) == pytest.approx(network(x).softmax(dim=1).numpy(), abs=1e-4)


def test_an_unknown_format_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'safetensors'"):
        known_format("safetensor")
