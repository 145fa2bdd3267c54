"""`fkal run --jobs`: real worker processes on the digits, so few of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.runner.executors import interleave

pytestmark = pytest.mark.slow

QUICK = [
    "--preset", "digits",
    "--set", "pretrain.epochs=1",
    "--set", "train.epochs=4",
    "--set", "acquisition.rounds=2",
]  # fmt: skip
GONE_SECONDS = 30


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, ["run", *QUICK, *arguments, "--json"])
    assert result.exit_code == code, result.output
    return result


def results(told: str) -> list:
    """What must be equal, however the work is shared out."""
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in json.loads(told)["experiments"]]


def parents(folder: Path):
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    return client, client.search_runs(["1"], "tags.`fkal.kind` = 'experiment'")


def test_side_by_side_gives_what_one_after_another_gives(here, monkeypatch):
    both = run("--method", "random,pfk", "--seeds", "0", "--jobs", "2")
    (here / "alone").mkdir()
    monkeypatch.chdir(here / "alone")
    assert results(both.stdout) == results(run("--method", "random,pfk", "--seeds", "0").stdout)
    assert len(list((here / "runs" / "pretrained").glob("*.safetensors"))) == 1
    assert len(list((here / "runs" / "splits").glob("*.json"))) == 1
    client, found = parents(here)
    assert len(found) == 2
    for parent in found:
        assert parent.info.status == "FINISHED"
        steps = [m.step for m in client.get_metric_history(parent.info.run_id, "accuracy/test")]
        assert steps == [20, 40]
        children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
        assert sorted(child.data.params["b"] for child in children) == ["1", "2"]


def test_messages_of_workers_have_the_alias_of_a_method(here):
    told = run("--method", "fisher_coverage", "--seeds", "0-1", "--set", "train.lr=1e20", "--jobs", "2", code=3)
    assert "digits-ir20-fisher_coverage-s1: " in told.stderr and "shift_grid" not in told.stderr


def test_failed_experiments_do_not_stop_each_other(here):
    torch.set_num_threads(max(2, os.cpu_count() or 1))
    told = run("--method", "random", "--seeds", "0-1", "--set", "train.lr=1e20", "--set", "threads=null",
               "--jobs", "2", code=3)  # fmt: skip
    assert "2 of 2 experiments failed" in told.stderr
    assert told.stderr.count("train.lr") >= 2
    assert "--jobs 2: `threads` is not set" in told.stderr


LONG = [
    *QUICK[:4],
    "--method",
    "random",
    "--seeds",
    "0-1",
    "--set",
    "acquisition.rounds=12",
    "--set",
    "train.epochs=20",
]


@pytest.fixture
def started(here, request):
    """A command in a terminal's manner, with its workers, once each has finished a round."""
    more = getattr(request, "param", [])
    command = [sys.executable, "-m", "fkal.cli.main", "run", *LONG, *more, "--jobs", "2"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in the background
    )
    while len(list(here.glob("runs/state/*/round-01.json"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    yield process, workers
    process.kill()


def left(workers: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(workers, timeout=GONE_SECONDS)
    return [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


def test_an_interrupt_ends_the_workers_and_the_same_command_goes_on(started, here):
    process, workers = started
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on" in told and "Traceback" not in told
    assert left(workers) == []
    _, found = parents(here)
    assert {parent.info.status for parent in found} == {"KILLED"}
    kept = {path: path.read_bytes() for path in here.glob("runs/state/*/round-*.json")}
    result = CliRunner().invoke(app, ["run", *LONG])
    assert result.exit_code == 0, result.output
    assert all(path.read_bytes() == content for path, content in kept.items())
    client, found = parents(here)
    assert [parent.info.status for parent in found] == ["FINISHED"] * 2
    assert all(len(client.get_metric_history(p.info.run_id, "accuracy/test")) == 12 for p in found)


@pytest.mark.parametrize("started", [["--seeds", "0-2"]], indirect=True)
def test_a_worker_that_is_killed_fails_its_own_experiment_alone(started, here):
    process, workers = started
    next(worker for worker in workers if any("spawn_main" in word for word in worker.cmdline())).kill()
    _, told = process.communicate(timeout=120)
    assert process.returncode == 3, told
    assert "1 of 3 experiments failed" in told
    assert told.count("a worker process was killed; the other experiments go on in new ones") == 1
    finished = [state for state in here.glob("runs/state/*") if len(list(state.glob("round-*.json"))) == 12]
    assert len(finished) == 2
    assert [parent.info.status for parent in parents(here)[1]].count("FINISHED") == 2
    assert left(workers) == []


def test_workers_whose_command_was_killed_end_themselves(started, here):
    process, workers = started
    process.kill()
    process.communicate(timeout=60)
    assert left(workers) == []
    assert {parent.info.status for parent in parents(here)[1]} <= {"KILLED", "RUNNING"}


@pytest.mark.parametrize("jobs", ["0", "-3"])
def test_fewer_than_one_job_is_refused(here, jobs):
    assert f"--jobs {jobs}: give 1 to 1024" in run("--jobs", jobs, code=2).stderr


def test_the_environment_may_say_how_many(here, monkeypatch):
    monkeypatch.setenv("FKAL_JOBS", "0")
    told = run(code=2).stderr
    assert "--jobs 0" in told
    assert "misspelt" not in told


def test_those_that_share_pretraining_are_spread():
    assert interleave(["a", "a", "a", "b", "c", "b"]) == [0, 3, 4, 1, 5, 2]
    assert interleave(["a", "b", "a", "b"]) == [0, 1, 2, 3]
