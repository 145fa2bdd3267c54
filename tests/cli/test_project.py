"""The rounds of a project on the command line: exit codes, JSON, one line per problem."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.main import app


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder of images in two classes, made a project by `fkal init`."""
    for part, count in (("pool", 24), ("checked", 12)):
        for i in range(count):
            pixels = np.random.default_rng(i + 100 * (part == "checked")).integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[:8] += 120 * (i % 2)
            folder = tmp_path / part if part == "pool" else tmp_path / part / ("dark", "light")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fkal("init", "halves", "--pool", "pool", "--val", "checked", "--backbone", "none")
    monkeypatch.chdir(tmp_path / "halves")
    return tmp_path / "halves"


QUICK = [
    "--set", "model.name=lenet", "--set", "pretrain.task=none", "--set", "train.epochs=2",
    "--set", "train.batch_size=4", "--set", "data.workers=0", "--set", "data.image_size=16",
]  # fmt: skip


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.slow
def test_a_round_by_a_script_and_what_is_said_on_the_way(project):
    assert "no selection is open" in fkal("select", "--cancel", code=2).stderr
    asked = json.loads(fkal("select", "-n", "6", *QUICK, "--json").stdout)
    assert asked["new"] and len(asked["images"]) == 6
    assert not json.loads(fkal("select", "-n", "6", *QUICK, "--json").stdout)["new"]
    assert "--more" in fkal("select", "-n", "5", *QUICK, code=2).stderr
    assert "6 of 6 images have no label" in fkal("train", *QUICK, code=5).stderr
    table = Path(asked["to_label"])
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    filled = [line + ("dark" if int(line[:2]) % 2 == 0 else "light") for line in lines[1:]]
    Path("filled.csv").write_text("\n".join([lines[0], *filled]) + "\n")
    fkal("label", "import", "filled.csv")
    both = json.loads(fkal("next", "-n", "4", *QUICK, "--json").stdout)
    assert both["training"]["labels_used"] == 6 and both["batch"]["round"] == 2
    said = fkal("status").stdout
    assert "6 labeled" in said and "advice: go on (rule: 2 rounds" in said and "optimistic" in said
    assert json.loads(fkal("status", "--json").stdout)["curve"][0]["labels"] == 6
    assert "withdrawn" in fkal("select", "--cancel").stdout
    assert (project / "mlflow.db").exists()


def test_simulated_rounds_need_both_options_and_take_no_others(project):
    truth = "path,label\n" + "".join(f"{i:02d}.png,{('dark', 'light')[i % 2]}\n" for i in range(24))
    Path("truth.csv").write_text(truth)
    assert "belong together" in fkal("run", "--project", ".", code=2).stderr
    assert "--out" in fkal("run", "--project", ".", "--truth", "truth.csv", "--out", "x", code=2).stderr
    settings = [*QUICK, "--set", "acquisition.budget=4", "--set", "acquisition.rounds=2", "--method", "random"]
    found = json.loads(fkal("run", "--project", ".", "--truth", "truth.csv", *settings, "--json").stdout)
    assert [each["labels_used"] for each in found["simulated"][0]["rounds"]] == [4, 8]
    both = fkal("run", "--project", ".", "--truth", "truth.csv", *settings, "--seeds", "0-1")
    (row,) = [line.split() for line in both.stdout.splitlines() if line.split()[:1] == ["random"]]
    assert row[1] == "2" and len(row) == 5 and all("±" in cell for cell in row[2:])
    assert "random s1: round 2 of 2, 8 labels, validation accuracy " in both.stderr


def test_outside_of_a_project_the_way_to_one_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for verb in ("select", "train", "next", "status", "audit", "relabel"):
        assert "fkal init" in fkal(verb, code=2).stderr
