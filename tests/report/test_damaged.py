"""One file that is damaged: it is named, the other experiments are shown, the exit code is 3."""

import json
import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.schema import ConfigError
from fkal.report.load.round_folders import weights_in
from fkal.runner.run import run

pytestmark = pytest.mark.slow

BROKEN = {
    "state/{print}/round-02.json": b'{"format": "fkal-round-1", "metrics": null}',
    "state/{print}/round-03.safetensors": b"",
    "state/{print}/round-01.safetensors": None,
    "state/{print}/about.json": b"[]",
    "splits/digits-ir20-s0-*.json": b'{"class_counts": 3}',
}


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def kept(scratch, tmp_path, configured) -> tuple[Path, str]:
    """A scratch folder of its own, and the fingerprint of digits-ir20-random-s0 in it."""
    from fkal.experiment.experiment import prepare

    out = shutil.copytree(scratch, tmp_path / "runs")
    return out, prepare(configured("random", 0, 20), out, print).fingerprint


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_file_of_one_experiment_hides_no_other(kept, tmp_path, name):
    out, fingerprint = kept
    (path,) = out.glob(name.format(print=fingerprint))
    content = BROKEN[name]
    path.unlink() if content is None else path.write_bytes(content)

    result = fkal("report", "--out", str(out), "--to", str(tmp_path / "to"), code=3)
    assert path.stem in result.stderr and "error: 1 cannot be read, or only in part:" in result.stderr
    page = (tmp_path / "to/index.html").read_text()
    assert "pfk_joint" in page and path.stem in page

    shown = fkal("show", "digits-ir20-pfk_joint-s0", "--out", str(out), code=3)
    assert "digits-ir20-pfk_joint-s0" in shown.stdout and path.stem in shown.stderr
    if "state" in name:
        assert path.stem in fkal("show", "digits-ir20-random-s0", "--out", str(out), code=2).stderr


def test_a_whole_folder_is_reported_with_0(kept, tmp_path):
    out, _ = kept
    assert "cannot be read" not in fkal("report", "--out", str(out), "--to", str(tmp_path / "to")).stderr


@pytest.fixture
def stored(kept, tmp_path, configured, monkeypatch) -> tuple[str, MlflowClient, dict[str, str]]:
    """Two experiments in a store: its address, a client, run ids by method."""
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    outcomes = run([configured("pfk_joint", 0, 20), configured("random", 1, 20)], out=kept[0], tracking=uri).outcomes
    return uri, MlflowClient(tracking_uri=uri), {each.method: each.run_id for each in outcomes}


def test_one_odd_run_of_the_store_hides_no_other(stored, tmp_path):
    uri, client, ids = stored
    client.set_tag(ids["random"], "fkal.seed", "\x1b[31mseven")
    for arguments in (["runs"], ["runs", "--json"], ["runs", "export", "-"]):
        result = fkal(*arguments, "--tracking-uri", uri, code=3)
        assert "pfk_joint" in result.stdout
        assert f"run {ids['random']}: its tag fkal.seed is '\\x1b[31mseven'" in result.stderr
        assert f"mlflow runs delete --run-id {ids['random']}" in result.stderr
    page = fkal("report", "--tracking-uri", uri, "--to", str(tmp_path / "to"), code=3)
    assert ids["random"] in page.stderr and (tmp_path / "to/index.html").exists()
    assert ids["random"] in fkal("show", "digits-ir20-pfk_joint-s0", "--tracking-uri", uri, code=3).stderr


@pytest.mark.parametrize("tag", [None, "", "../../x", "A" * 32, "\x1b[31m"])
def test_a_run_with_an_odd_fingerprint_is_shown_and_named(stored, tmp_path, tag):
    uri, client, ids = stored
    if tag is None:
        client.delete_tag(ids["random"], "fkal.fingerprint")
    else:
        client.set_tag(ids["random"], "fkal.fingerprint", tag)
    for arguments in (["runs"], ["runs", "--json"], ["runs", "export", "-"]):
        result = fkal(*arguments, "--tracking-uri", uri, code=3)
        assert "pfk_joint" in result.stdout and "random" in result.stdout
        assert f"run {ids['random']}: its tag fkal.fingerprint" in result.stderr
    page = fkal("report", "--tracking-uri", uri, "--to", str(tmp_path / "to"), code=3)
    assert ids["random"] in page.stderr and (tmp_path / "to/index.html").exists()
    assert ids["random"] in fkal("show", "digits-ir20-pfk_joint-s0", "--tracking-uri", uri, code=3).stderr
    assert fkal("runs", "--method", "pfk_joint", "--tracking-uri", uri).exit_code == 0


@pytest.mark.parametrize("damage", ["summary.json", "selected.parquet", "no file", "a param", "a missing round"])
def test_one_damaged_iteration_of_the_store_hides_no_other(stored, tmp_path, damage):
    uri, client, ids = stored
    (place,) = client.search_experiments(filter_string="name = 'fkal/digits'")
    query = f"tags.`mlflow.parentRunId` = '{ids['random']}'"
    child = client.search_runs([place.experiment_id], query)[1]
    folder = Path(client.get_run(child.info.run_id).info.artifact_uri.removeprefix("file://"))
    match damage:
        case "summary.json":
            facts = json.loads((folder / damage).read_text())
            (folder / damage).write_text(json.dumps({**facts, "metrics": {}}))
        case "selected.parquet":
            (folder / damage).write_bytes(b"PAR1")
        case "no file":
            (folder / "summary.json").unlink()
        case "a param":
            client.log_param(ids["random"], "not.a.setting", "1")
        case _:
            client.delete_run(child.info.run_id)
    result = fkal("report", "--tracking-uri", uri, "--to", str(tmp_path / "to"), code=3)
    assert f"digits-ir20-random-s1 ({ids['random'][:8]})" in result.stderr
    assert "pfk_joint" in (tmp_path / "to/index.html").read_text()


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_in_the_place_of_a_round_is_named(tmp_path, put):
    """And ends nothing: whoever reads several experiments leaves this one out."""
    put(tmp_path / "round-01.json")
    with pytest.raises(ConfigError, match=r"round-01\.json: .*not a file"):
        weights_in(tmp_path)()
