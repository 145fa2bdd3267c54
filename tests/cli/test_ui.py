"""`fkal ui`: the addresses it names, what it refuses, and a real server on a real store."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.results.checkpoint import Checkpoint
from fkal.tracking import ui
from fkal.tracking.experiment_run import TrackedRun
from fkal.tracking.method_run import remake_method_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, ["ui", "--no-browser", *arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def methods(here, experiment, tiny_round, store) -> dict[str, str]:
    """Run ids of two methods by name."""
    ids = {}
    for number, method in enumerate(("random", "pfk_joint")):
        one = replace(
            experiment,
            fingerprint=f"{number:032x}",
            cell=f"tiny-ir2-{method}",
            tags={**experiment.tags, "method": method},
        )
        with (
            Checkpoint(here / "runs", one.fingerprint) as state,
            TrackedRun.open(one, state, uri=store, say=print, monitor=False) as run,
        ):
            run.log(tiny_round(one, 1))
            run.finish(model=False)
        ids[method] = remake_method_run(MlflowClient(store), run.run_id)
    return ids


def fragment(path: str) -> tuple[str, dict[str, str]]:
    page, _, query = urlsplit(path).fragment.partition("?")
    return page, {name: values[0] for name, values in parse_qs(query).items()}


def test_the_page_opens_at_the_charts_of_the_methods_the_best_first(methods, store):
    (found,) = ui.comparisons(MlflowClient(store), print)
    assert (found.experiment, found.methods) == ("fkal/tiny", 2)
    page, asked = fragment(found.charts)
    assert page == "/experiments/1/runs"
    assert asked["compareRunsMode"] == "CHART" and asked["workflowType"] == "machine_learning"
    assert (asked["orderByKey"], asked["orderByAsc"]) == ("metrics.`accuracy/test`", "false")
    client = MlflowClient(store)
    matching = client.search_runs(["1"], asked["searchFilter"])
    assert {run.info.run_id for run in matching} == set(methods.values())
    page, asked = fragment(found.compare)
    assert page == "/compare-runs"
    assert set(json.loads(asked["runs"])) == set(methods.values()) and json.loads(asked["experiments"]) == ["1"]


def test_a_method_that_mlflow_cannot_read_is_named_and_hides_no_other(here, methods, store, said):
    with closing(sqlite3.connect(here / "mlflow.db")) as database:
        database.execute("UPDATE runs SET start_time = NULL WHERE run_uuid = ?", [methods["random"]])
        database.commit()
    (found,) = ui.comparisons(MlflowClient(store), said.append)
    assert (found.experiment, found.methods) == ("fkal/tiny", 1)
    assert len(said) == 1 and f"left out: run {methods['random']}: its row was changed by hand" in said[0]


def test_a_missing_store_and_an_empty_one_end_with_4_and_the_way_out(here, store):
    told = fkal("--tracking-uri", "sqlite:///none.db", code=4).stderr
    assert "none.db" in told and "fkal run" in told
    assert not (here / "none.db").exists()
    assert "no experiment is tracked" in fkal(code=4).stderr


def test_a_port_that_is_taken_is_refused_with_another(methods):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = fkal("--port", str(port), code=2).stderr
    assert f"--port {port}" in told and f"say --port {port + 1}" in told


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1", "http://x"])
def test_a_host_that_is_not_this_machine_is_refused_with_one_that_is(methods, host):
    told = fkal("--host", host, code=2).stderr
    assert f"--host '{host}'" in told and "say --host 127.0.0.1" in told and "another port" not in told


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_is_refused(here, port):
    fkal("--port", port, code=2)


def test_the_server_has_its_environment_and_what_the_user_set_for_names_is_kept(monkeypatch):
    inside = ui._environment("127.0.0.1", 5000)
    assert inside["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert inside["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" not in inside
    outside = ui._environment("0.0.0.0", 5000)
    assert f"{socket.gethostname()}:5000" in outside["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert f"http://{socket.gethostname()}:5000" in outside["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "mine")
    assert ui._environment("0.0.0.0", 5000)["MLFLOW_SERVER_ALLOWED_HOSTS"] == "mine"


def test_an_address_can_be_typed_into_a_browser():
    assert ui.address("127.0.0.1", 5000) == "http://127.0.0.1:5000"
    assert ui.address("::1", 5000) == "http://[::1]:5000"
    assert ui.address("0.0.0.0", 5000) == f"http://{socket.gethostname()}:5000"


@pytest.mark.slow
def test_the_server_answers_until_it_is_asked_to_end(methods, store):
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fkal.cli.main", "ui", "--no-browser", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--tracking-uri", store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        line = process.stdout.readline()
        assert line.startswith(f"fkal/tiny: http://127.0.0.1:{port}/#/experiments/1/runs?")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            assert b"MLflow" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0, process.stderr.read()
    with closing(socket.socket()) as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
