"""Two own trees from end to end: what is run, tracked, reported and tuned keeps them apart."""

import json
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.tuned import read_tuned
from fkal.results.manifest import read_about

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's, SQLAlchemy 2.1
    ),
]

SETTINGS = {
    "bias": {"ratio": 2},
    "pretrain": {"task": "none"},
    "train": {"epochs": 1, "decay_epochs": []},
    "acquisition": {"name": "random", "rounds": 1, "budget": 2},
    "threads": 1,
}


def draw_tree(tree: Path, shade: int) -> None:
    for part in ("train", "test"):
        for label, brightness in (("dark", shade), ("light", 200)):
            (tree / part / label).mkdir(parents=True)
            for i in range(16):
                Image.new("L", (8, 8), brightness + i).save(tree / part / label / f"{i:02}.png")


def params(folder: str) -> list[str]:
    """Options that name the settings of a tree."""
    path = Path(f"{folder.replace('/', '-')}.yaml")
    data = {"name": "folder", "root": ".", "folder": folder, "validation_per_class": 4}
    path.write_text(yaml.safe_dump({"data": data, **SETTINGS}))
    return ["--params", str(path)]


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def here(tmp_path, monkeypatch, store) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_trees_of_two_names_are_two_datasets_everywhere(here):
    for folder, shade in (("photographs/bolts", 20), ("photographs/nuts", 60)):
        draw_tree(here / folder, shade)
        fkal("run", *params(folder), "--json")
    told = json.loads(fkal("runs", "--json").stdout)["runs"]
    assert sorted(run["dataset"] for run in told) == ["bolts", "nuts"]
    assert sorted(run["name"] for run in told) == [
        "bolts-ir2-random:random_theta_0-s0",
        "nuts-ir2-random:random_theta_0-s0",
    ]
    client = MlflowClient(f"sqlite:///{here / 'mlflow.db'}")
    assert {each.name for each in client.search_experiments()} >= {"fkal/bolts", "fkal/nuts"}
    fkal("report", "--out", "runs")
    page = Path("report/index.html").read_text()
    assert "bolts, ir = 2" in page and "nuts, ir = 2" in page
    assert {path.name for path in Path("report/tables").glob("ranking-*")} == {
        "ranking-bolts-ir2.csv",
        "ranking-nuts-ir2.csv",
    }
    fkal("report", "--tracking-uri", f"sqlite:///{here / 'mlflow.db'}", "--to", "tracked")
    assert len(list(Path("tracked/tables").glob("ranking-*"))) == 2


def test_each_tree_has_a_study_and_a_tuned_file(here):
    answers = []
    for folder, shade in (("bolts", 20), ("nuts", 60)):
        draw_tree(here / folder, shade)
        options = [*params(folder), "--trials", "1", "--json"]
        answers.append(json.loads(fkal("tune", *options).stdout))
    assert [answer["tuned"] for answer in answers] == ["params/tuned/bolts.yaml", "params/tuned/nuts.yaml"]
    assert len({answer["study"] for answer in answers}) == 2
    studies = [read_tuned(Path(answer["tuned"])).study for answer in answers]
    assert len({study.source for study in studies}) == 2 and None not in {study.source for study in studies}
    client = MlflowClient(f"sqlite:///{here / 'mlflow.db'}")
    assert {each.name for each in client.search_experiments()} >= {"fkal/bolts-tune", "fkal/nuts-tune"}


def test_trees_of_one_name_are_told_apart_by_their_images(here):
    for folder, shade in (("a/mine", 20), ("b/mine", 60)):
        draw_tree(here / folder, shade)
        fkal("run", *params(folder), "--json")
    digests = {read_about(path).data_digest for path in Path("runs/state").iterdir()}
    assert len(digests) == 2 and "" not in digests
    table = fkal("runs").stdout
    assert all(f"mine {digest[:6]}" in table for digest in digests)
    client = MlflowClient(f"sqlite:///{here / 'mlflow.db'}")
    (place,) = [each for each in client.search_experiments() if each.name == "fkal/mine"]
    methods = client.search_runs([place.experiment_id], "tags.`fkal.kind` = 'method'")
    assert {run.data.tags["fkal.data_digest"] for run in methods} == digests
    fkal("report", "--out", "runs")
    page = Path("report/index.html").read_text()
    assert all(f"mine, ir = 2, images {digest[:6]}" in page for digest in digests)
    curves = Path("report/iterations.csv")
    fkal("report", "--curves", str(curves), "--to", "again")
    again = Path("again/index.html").read_text()
    assert all(f"mine, ir = 2, images {digest[:6]}" in again for digest in digests)


def test_changed_images_are_other_data_and_another_study(here):
    draw_tree(here / "mine", 20)
    options = [*params("mine"), "--trials", "1", "--json"]
    first = json.loads(fkal("tune", *options, "--apply").stdout)
    for path in (here / "mine" / "train" / "dark").glob("*.png"):
        Image.new("L", (8, 8), 90).save(path)
    told = fkal("run", *params("mine"), "--dry-run")
    assert "other images" in told.stderr and "fkal tune --dataset mine" in told.stderr
    again = json.loads(fkal("tune", *options).stdout)
    assert again["study"] != first["study"]
