"""Stores on servers, real ones: several processes write to them at once, from the first table on."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

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
    "--set", "pretrain.epochs=1",
    "--set", "train.epochs=4",
    "--set", "acquisition.rounds=2",
]  # fmt: skip
START_SECONDS = 60


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def program_of_postgres(name: str) -> str:
    """Debian keeps those of the server out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, reversed(folders))])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is neither in PATH nor under /usr/lib/postgresql; install its server")
    return found


def server_account() -> str | None:
    """Under which account PostgreSQL is started: it refuses root."""
    if os.geteuid() != 0:
        return None
    import pwd

    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in accounts), None)


@pytest.fixture
def postgres():
    """The address of an empty database on a server of its own."""
    initdb, pg_ctl = program_of_postgres("initdb"), program_of_postgres("pg_ctl")
    account, port = server_account(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="fkal-postgres-"))
    if account:
        shutil.chown(folder, account)

    def call(*command: str) -> None:
        told = folder.with_suffix(".log")
        with told.open("a") as log:
            done = subprocess.run(command, cwd=folder, user=account, stdout=log, stderr=log, timeout=START_SECONDS)
        assert done.returncode == 0, told.read_text()

    data, settings = str(folder / "data"), f"-F -p {port} -k {folder} -c listen_addresses=127.0.0.1"
    try:
        call(initdb, "-D", data, "-U", "fkal", "-A", "trust", "-E", "UTF8", "--no-sync")
        call(pg_ctl, "-D", data, "-o", settings, "-w", "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql+psycopg://fkal@127.0.0.1:{port}/postgres"
        finally:
            call(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
        folder.with_suffix(".log").unlink(missing_ok=True)


@pytest.fixture
def http(tmp_path, store):
    """The address of an MLflow server."""
    address = f"http://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", port,
               "--artifacts-destination", str(tmp_path / "kept"), "--workers", "1"]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **quiet}, cwd=tmp_path, start_new_session=True
        )
    try:
        last = time.monotonic() + START_SECONDS
        while not answers(f"{address}/health"):
            assert server.poll() is None and time.monotonic() < last, (tmp_path / "server.log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=START_SECONDS)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(params=["postgres", "http"])
def server(request) -> str:
    return request.getfixturevalue(request.param)


def test_two_processes_write_to_one_server_at_once(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = ("random", "pfk_joint")
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "fkal.cli.main", "run", *QUICK, "--method", method, "--tracking-uri", server,
             "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for method in methods
    ]  # fmt: skip
    told = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    client = MlflowClient(server)
    (place,) = [e for e in client.search_experiments() if e.name == "fkal/digits"]
    for out, _ in told:
        (experiment,) = json.loads(out)["experiments"]
        parent = client.get_run(experiment["run_id"])
        assert parent.info.status == "FINISHED"
        curve = [(m.step, m.value) for m in client.get_metric_history(parent.info.run_id, "accuracy/test")]
        assert curve == [(r["labels_used"], r["test/accuracy"]) for r in experiment["rounds"]]
        children = client.search_runs([place.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        assert sorted(child.data.params["b"] for child in children) == ["1", "2"]
        for child in children:
            assert {a.path for a in client.list_artifacts(child.info.run_id)} >= {"selected.csv", "selected.png"}
    listed = CliRunner().invoke(app, ["runs", "--tracking-uri", server, "--json"])
    assert listed.exit_code == 0, listed.output
    runs = json.loads(listed.stdout)["runs"]
    assert sorted((run["method"], run["status"], run["labels_used"]) for run in runs) == [
        ("pfk_joint", "FINISHED", 40),
        ("random", "FINISHED", 40),
    ]
    exported = CliRunner().invoke(app, ["runs", "export", "all.parquet", "--tracking-uri", server])
    assert exported.exit_code == 0, exported.output


def test_the_password_of_a_server_is_in_no_output_and_in_no_file(http, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = http.replace("http://", "http://me:hunter22@")
    quick = ["--preset", "digits", "--set", "pretrain.task=none", "--set", "train.epochs=1"]
    quick += ["--set", "acquisition.rounds=1", "--tracking-uri", address]
    for command in (
        ["run", *quick, "--method", "random"],
        ["run", *quick, "--method", "random", "--json"],
        ["runs", "--tracking-uri", address, "--json"],
        ["report", "--tracking-uri", address],
        ["tune", *quick, "--method", "random", "--trials", "1"],
        ["tune", *quick, "--method", "random", "--trials", "1", "--json"],
        ["runs", "rm", "--dataset", "digits", "--yes", "--tracking-uri", address],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert "hunter22" not in result.output
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"hunter22" not in path.read_bytes(), path
    page = (tmp_path / "report" / "index.html").read_text()
    assert http.replace("http://", "http://me:***@") in page
