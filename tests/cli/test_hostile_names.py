"""A tree of images whose classes have hostile names, from the run to the report, and a store with hostile tags."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.data.errors import printable
from fkal.results.checkpoint import Checkpoint
from fkal.results.csv_files import csv_bytes
from fkal.tracking.experiment_run import TrackedRun
from fkal.tracking.tags import parent_tags

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # of MLflow
    ),
]

RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = re.compile(r"[=+\-@\t\r]")
NAMES = (
    rb"$\frac{$",
    b'=HYPERLINK("x")',
    b"[red]x",
    b"\x1b]0;title\x07",
    b"bad\xff",
    b"<script>alert(1)",
    "a\u202eb".encode(),
    b"-cmd",
    b"\tx",
    "猫".encode(),
    b"_hidden",
    b"two\nlines",
)
SETTINGS = {
    "data.name": "folder",
    "data.folder": "mine",
    "data.validation_per_class": 3,
    "bias.ratio": 2,
    "acquisition.budget": 12,
    "acquisition.rounds": 2,
    "train.epochs": 1,
    "pretrain.epochs": 1,
}
SET = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
RUNS = ("mine-ir2-random-s0", "mine-ir2-pfk_joint-s0")


def fkal(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    assert not RAW.search(result.output)
    return result.stdout


SPLIT = ("split", "--preset", "digits", "--data-root", "data", *SET)


def write_tree(root: Path) -> None:
    generator = np.random.default_rng(0)
    for part, images in (("train", 12), ("test", 2)):
        for k, name in enumerate(NAMES):
            folder = os.path.join(os.fsencode(root), part.encode(), name)  # noqa: PTH118  pathlib knows no bytes
            os.makedirs(folder)  # noqa: PTH103
            for i in range(images):
                pixels = generator.normal(15 * k + 30, 12, (12, 12)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(Path(os.fsdecode(folder)) / f"={i}.png")


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Path]:
    """Where it was run and reported."""
    folder, before = tmp_path_factory.mktemp("hostile"), Path.cwd()
    os.chdir(folder)
    try:
        write_tree(folder / "data" / "mine")
        fkal("run", "--preset", "digits", "--data-root", "data", *SET, "--method", "random,pfk")
        fkal("runs", "export", "export.csv")
        fkal("report", "--out", "runs", "--data-root", "data", "--to", "report")
        fkal("report", "--tracking-uri", "sqlite:///mlflow.db", "--data-root", "data", "--to", "report-of-store")
        yield folder
    finally:
        os.chdir(before)


def files(here: Path, suffix: str) -> list[Path]:
    found = [path for path in here.rglob(f"*{suffix}") if "data" not in path.relative_to(here).parts[:1]]
    assert found
    return found


def test_runs_are_shown_listed_compared_and_exported(here, monkeypatch):
    monkeypatch.chdir(here)
    for run in RUNS:
        assert run in fkal("show", run)
        assert run in fkal("show", run, "--tracking-uri", "sqlite:///mlflow.db")
    compared = " ".join(fkal("compare", *RUNS).split())
    assert "difference" in compared
    assert re.search(r"labeled by both: [1-9][0-9]*: train/.+?=[0-9]+\.png", compared)
    for shown in (fkal("show", RUNS[0]), fkal("show", RUNS[0], "--tracking-uri", "sqlite:///mlflow.db")):
        assert "=HYPERLINK" in "".join(shown.split()) and "holds no names" not in shown
    assert any(line.split()[:1] == ['=HYPERLINK("x")'] for line in fkal(*SPLIT).splitlines())
    assert {run["name"] for run in json.loads(fkal("runs", "--json"))["runs"]} == set(RUNS)
    assert all(run in fkal("runs") for run in RUNS)
    assert len(pd.read_csv(io.StringIO(fkal("runs", "export", "-")))) == 4


def test_pictures_are_whole_and_svgs_parse(here):
    for path in files(here, ".png"):
        Image.open(path).load()
    for path in files(here, ".svg"):
        ElementTree.parse(path)


def test_the_page_has_no_control_character_and_no_script(here):
    for path in files(here, "index.html"):
        text = path.read_text(encoding="utf-8")
        assert not RAW.search(text)
        assert "<script" not in text


def test_no_cell_of_a_table_begins_a_formula(here):
    texts = [path.read_bytes().decode() for path in files(here, ".csv")]
    cells = [cell for text in texts for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
    assert '\'=HYPERLINK("x")' in cells and r"bad\xff" in cells
    for cell in cells:
        assert not RAW.search(cell)
        assert not FORMULA.match(cell) or float(cell) < 0


def test_the_store_has_the_names_that_it_can_hold(here):
    picks = pd.concat(pd.read_parquet(path) for path in files(here, "selected.parquet"))
    known = set(picks["label_name"])
    assert known <= {printable(os.fsdecode(name)) for name in NAMES}
    assert any(name.startswith("train/") and "/=" in name for name in picks["name"])


@pytest.mark.parametrize("name", ["[/red]x", "\x1b]0;title\x07", "a\u202eb", "=1", "<script>", "$x$"])
def test_a_store_may_have_any_tag_and_run_name(name, experiment, tiny_round, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Checkpoint(tmp_path / "runs", experiment.fingerprint) as state:
        run = TrackedRun.open(experiment, state, uri=store, say=print, monitor=False)
        run.log(tiny_round(experiment, 1))
        run.finish(model=False)
    client = MlflowClient(store)
    for tag in ("fkal.name", "fkal.method", "fkal.dataset", "fkal.bias"):
        client.set_tag(run.run_id, tag, name)
    client.update_run(run.run_id, name=name)
    shown = name.replace("\x1b", r"\x1b").replace("\x07", r"\x07").replace("\u202e", r"\u202e")
    assert fkal("runs").count(shown) == 4
    assert json.loads(fkal("runs", "--json"))["runs"][0]["method"] == name
    (row,) = csv.DictReader(io.StringIO(fkal("runs", "export", "-")))
    assert row["method"] == (f"'{name}" if name == "=1" else shown)
    result = CliRunner().invoke(app, ["runs", "rm", "--method", name], input="n\n")
    assert "Remove these 1" in result.output and not RAW.search(result.output)
    assert shown in fkal("runs", "rm", name, "--yes")


def test_what_a_database_cannot_hold_is_tracked_escaped(experiment, tiny_round, store, tmp_path):
    one = replace(
        experiment,
        name="bad\udcff",
        params={**experiment.params, "data.folder": "bad\udcff\x00"},
        tags={**experiment.tags, "method": "bad\udcff"},
    )
    assert parent_tags(one)["fkal.method"] == "bad\udcff"
    with Checkpoint(tmp_path / "runs", one.fingerprint) as state:
        run = TrackedRun.open(one, state, uri=store, say=print, monitor=False)
        run.log(tiny_round(one, 1))
        run.finish(model=False)
    kept = MlflowClient(store).get_run(run.run_id)
    assert (kept.data.tags["fkal.name"], kept.data.tags["fkal.method"]) == (r"bad\udcff", r"bad\udcff")
    assert kept.data.params["data.folder"] == r"bad\udcff\x00"


@pytest.mark.parametrize("name", ["=1+1", r"$\frac{$", "../../outside", 'a"b<c>', "\x1b]0;t\x07", "_x", "猫", "[/red]"])
def test_curves_may_name_data_and_methods_as_they_like(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        (name, "ir1", "last", method, seed, b, 10 * b, 0.3 + 0.1 * b)
        for method in (name, "random")
        for seed in (0, 1)
        for b in (1, 2, 3)
    ]
    columns = ["dataset", "bias", "protocol", "method", "seed", "b", "labels_used", "test/accuracy"]
    Path("curves.csv").write_bytes(csv_bytes(pd.DataFrame(rows, columns=columns)))
    fkal("report", "--curves", "curves.csv", "--to", "in/a/report")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.csv", "in"}
    assert {path.name for path in (tmp_path / "in" / "a").iterdir()} == {"report"}
    page = Path("in/a/report/index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="((?:figures|tables)/[^"]*)"', page)
    assert links and all((tmp_path / "in/a/report" / link).is_file() for link in links)
    for path in tmp_path.rglob("*.svg"):
        ElementTree.parse(path)
    (written,) = {*pd.read_csv("in/a/report/accuracy.csv")["method"]} - {"random"}
    assert written == (f"'{name}" if name == "=1+1" else name.replace("\x1b", r"\x1b").replace("\x07", r"\x07"))


def test_two_datasets_that_become_one_file_name_stay_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        (dataset, "ir1", "last", "random", 0, b, 10 * b, 0.3 + 0.1 * b)
        for dataset in ("a/b", "a b", "a:b", "a-b")
        for b in (1, 2)
    ]
    columns = ["dataset", "bias", "protocol", "method", "seed", "b", "labels_used", "test/accuracy"]
    pd.DataFrame(rows, columns=columns).to_csv("curves.csv", index=False)
    fkal("report", "--curves", "curves.csv", "--to", "report")
    assert len(list(Path("report/figures").glob("accuracy-*.png"))) == 4
