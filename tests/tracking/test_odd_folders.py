"""Working folders with odd names: what a run makes is in the folder, and nothing is outside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's, SQLAlchemy 2.1
    ),
]
QUICK = [
    "--preset", "digits",
    "--method", "random",
    "--set", "pretrain.task=none",
    "--set", "train.epochs=1",
    "--set", "acquisition.rounds=1",
]  # fmt: skip
ODD = ["a?b", "a%20b", "q'\"q", "a#b&c;d e+é$HOME%[1]", "new\nline :b\\c"]


@pytest.fixture(params=ODD, ids=ascii)
def odd(request, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / request.param
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_a_run_its_store_and_its_artifacts_are_in_the_folder(odd):
    out = f"out {odd.name}"
    told = json.loads(fkal("run", *QUICK, "--out", out, "--json").stdout)
    (experiment,) = told["experiments"]
    assert [path.name for path in odd.parent.iterdir()] == [odd.name]
    assert {path.name for path in odd.iterdir()} >= {"mlflow.db", "mlartifacts", out}
    client = MlflowClient(tracking_uri=experiment["tracking_uri"])
    place = unquote(urlsplit(client.get_run(experiment["run_id"]).info.artifact_uri).path)
    assert Path(place).is_relative_to(odd)
    assert (Path(place) / "curve.csv").is_file()
    (listed,) = json.loads(fkal("runs", "--json").stdout)["runs"]
    assert listed["run_id"] == experiment["run_id"]
    assert Path(told["figures"][0]).is_file()
    fkal("report", "--out", out, "--to", f"report {odd.name}")
    fkal("report", "--tracking-uri", experiment["tracking_uri"], "--to", "report")
    assert (odd / f"report {odd.name}" / "index.html").is_file() and (odd / "report" / "index.html").is_file()
    assert [path.name for path in odd.parent.iterdir()] == [odd.name]
    assert told["ui"] == "fkal ui"  # the store here is the one it opens


@pytest.mark.parametrize("storage", [None, "journal?%20'", "sqlite:///study.db"])
def test_a_study_is_in_the_folder(tmp_path, monkeypatch, storage):
    folder = tmp_path / "a?b%20'c"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    given = [] if storage is None else ["--storage", storage]
    told = json.loads(fkal("tune", *QUICK, "--trials", "1", *given, "--json").stdout)
    assert [trial["state"] for trial in told["trials"]] == ["complete"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    made = {None: f"runs/tune/{told['study']}.journal", "sqlite:///study.db": "study.db"}.get(storage, storage)
    assert (folder / made).is_file()


def test_a_folder_whose_name_is_not_utf_8_is_refused_before_any_work(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for command in ("run", "tune"):
        told = fkal(command, *QUICK, code=2).output
        assert "a\\udcff" in told and "not UTF-8" in told and "rename the folder" in told
    assert list(folder.iterdir()) == []


def test_mlflow_opens_a_quoted_address_and_makes_no_other_folder(tmp_path, monkeypatch):
    """As a program of its own, as the UI is."""
    folder = tmp_path / "a?b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    told = json.loads(fkal("run", *QUICK, "--json").stdout)
    address = told["experiments"][0]["tracking_uri"]
    command = [sys.executable, "-m", "mlflow", "experiments", "search"]
    answer = subprocess.run(
        command, env={**os.environ, "MLFLOW_TRACKING_URI": address}, capture_output=True, text=True, check=True
    )
    assert "fkal/digits" in answer.stdout
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
