"""The trained model on new images, and as a file."""

import csv
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from fkal.data.errors import MissingData
from fkal.errors import ConfigError, LabelsMissing, MissingPackage
from fkal.identifiers import UnsafeName
from fkal.labeling.learner import Learner
from fkal.labeling.predicting import COLUMNS, TrainedModel, export_model, known_format, predict
from fkal.labeling.project import Project
from fkal.labeling.rounds import select, train, watched
from fkal.labeling.trainings import read_round, trainings
from fkal.models.registry import build, head_name, resnet10
from fkal.notify import PLAIN
from fkal.results.csv_files import csv_rows


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


@pytest.mark.parametrize("trained", ["from scratch"], indirect=True)
def test_a_csv_has_the_rows_of_the_parquet_file_and_no_formula(trained, tmp_path):
    images = tmp_path / "=new"
    images.mkdir()
    path = trained.project.folder.parent / "images" / trained.project.pool.paths[0]
    for name in ("=1+1.png", "b,c.png"):
        (images / name).write_bytes(path.read_bytes())
    (images / "none.png").write_bytes(b"no image")
    parquet, table = (predict(trained.again(), str(images), tmp_path / f"out{kind}") for kind in (".parquet", ".CSV"))
    assert (table.images, table.unreadable) == (parquet.images, parquet.unreadable) == (2, 1)
    rows = pq.read_table(parquet.path).to_pylist()
    with table.path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["path"] for row in read] == ["'=1+1.png", "b,c.png", "none.png"]
    assert [row["path"] for row in rows] == ["=1+1.png", "b,c.png", "none.png"]
    assert [row["label"] for row in read] == [row["label"] or "" for row in rows]
    again = predict(trained.again(), str(images), table.path)
    assert again.path.read_bytes() == csv_rows([COLUMNS, *(list(row.values()) for row in rows)]).encode()
    assert [row["flaw"] for row in read] == [row["flaw"] or "" for row in rows]
    assert [row["probability"] for row in read] == [
        "" if p is None else repr(p) for p in (r["probability"] for r in rows)
    ]


@pytest.mark.parametrize("name", ["labels.csv", "list.parquet", "text.parquet"])
def test_a_table_of_something_else_is_not_written_over(signs, tmp_path, name):
    out = tmp_path / name
    if name == "list.parquet":
        pq.write_table(pa.table({"path": ["a.png"], "label": ["cat"]}), out)
    else:
        out.write_bytes(b"path,label\na.png,cat\n")
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="is no table of predictions; name another file"):
        predict(signs().project, str(tmp_path), out)
    assert out.read_bytes() == before


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


def exported(project: Project, out: Path) -> Path:
    return export_model(project, out, "safetensors")


@pytest.mark.parametrize("name", ["labels.csv", "pool.parquet", "params.yaml", "rounds/01/request.json", ".fkal/x"])
@pytest.mark.parametrize("kind", ["predict", "export"])
def test_no_result_is_written_over_a_file_of_the_project(signs, name, kind):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    out = made.project.folder / name
    before = out.read_bytes() if out.exists() else None
    images = str(made.project.folder.parent / "images")
    write = partial(predict, made.again(), images) if kind == "predict" else partial(exported, made.again())
    with pytest.raises(ConfigError, match="is the project's own; name another file"):
        write(out)
    assert (out.read_bytes() if out.exists() else None) == before


@pytest.mark.parametrize("name", ["0.png", "list.txt", "noname"])
@pytest.mark.parametrize("kind", ["predict", "export"])
def test_a_name_of_another_kind_of_file_is_refused_since_it_may_be_an_image(signs, tmp_path, name, kind):
    out = tmp_path / name
    out.write_bytes(b"precious")
    write = (
        partial(predict, signs().project, str(tmp_path)) if kind == "predict" else partial(exported, signs().project)
    )
    suffix = {"predict": r"parquet or \.csv", "export": "safetensors"}[kind]
    with pytest.raises(ConfigError, match=rf"--out .*{name}: a name that ends in \.{suffix} is wanted"):
        write(out)
    assert out.read_bytes() == b"precious"


def test_a_dead_link_has_a_row_with_its_flaw(signs, tmp_path):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "dead.png").symlink_to("nowhere")
    found = predict(made.again(), str(tmp_path / "new"), tmp_path / "p.parquet")
    assert (found.images, found.unreadable) == (0, 1)
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == [
        {"path": "dead.png", "label": None, "probability": None, "flaw": "it is a link to nothing"}
    ]


def test_a_list_of_no_image_is_refused(signs, tmp_path):
    (tmp_path / "m.csv").write_text("path\n")
    with pytest.raises(MissingData, match="lists no image"):
        predict(signs().project, str(tmp_path / "m.csv"), tmp_path / "p.parquet")


@pytest.mark.parametrize(("name", "part"), [("pipe", "no regular file"), ("absent/p.parquet", "there is no folder")])
def test_an_output_that_no_file_can_be_is_refused_before_any_work(signs, tmp_path, name, part):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=part):
        predict(signs().project, str(tmp_path), tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()


def test_classes_in_another_order_are_refused(signs):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    path = made.project.folder / "classes.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(ConfigError, match=r"classes.txt: line 1 is .*, and was .* when round 1 was trained"):
        predict(made.again(), str(made.project.folder.parent / "images"), made.project.folder.parent / "p.parquet")


def test_weights_that_are_a_pipe_are_refused_and_not_waited_for(signs):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again())
    weights = made.project.state_path / "round-01.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(ConfigError, match=r"round-01.safetensors: it is a pipe, not a file; remove it"):
        predict(made.again(), str(made.project.folder.parent / "images"), made.project.folder.parent / "p.parquet")


@pytest.mark.parametrize("name", ["rounds", "rounds/01", ".fkal/state"])
def test_a_link_out_of_the_project_is_not_written_through(signs, tmp_path, name):
    made = signs()
    place = made.project.folder / name
    (tmp_path / "elsewhere").mkdir()
    if place.is_dir():
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeName, match="a symbolic link"):
        select(made.again())
    assert not list((tmp_path / "elsewhere").iterdir())
