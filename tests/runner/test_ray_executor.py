"""`fkal run --executor ray`: real Ray clusters of this machine on the digits, so few of them."""

import hashlib
import json
import re
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
from fkal.config.schema import Config, ConfigError
from fkal.runner.plan import RayCluster, refuse_wrong_options

START = ["--preset", "digits", "--set", "pretrain.epochs=1", "--set", "threads=1"]
QUICK = [*START, "--set", "train.epochs=4", "--set", "acquisition.rounds=2"]
LONG = [*START, "--set", "train.epochs=60", "--set", "acquisition.rounds=6", "--method", "random", "--seeds", "0-1"]
RAY = ["--executor", "ray", "--jobs", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, ["run", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return result


def results(told: str) -> list:
    """What must be equal, wherever the work is done."""
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in json.loads(told)["experiments"]]


def contents(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path) -> dict[str, int]:
    """When each file of results was last written."""
    names = ("state", "pretrained", "splits", "descriptors")
    return {str(p): p.stat().st_mtime_ns for name in names for p in (folder / name).rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_gives_what_this_process_gives_and_a_second_run_touches_nothing(here):
    alone = run(*QUICK, "--method", "random,pfk", "--out", "alone", "--tracking-uri", "sqlite:///alone.db")
    both = run(*QUICK, "--method", "random,pfk", *RAY)
    assert results(both.stdout) == results(alone.stdout)
    found, times = contents(here / "runs"), written(here / "runs")
    assert len(list(here.glob("runs/state/*/round-02.json"))) == 2
    again = run(*QUICK, "--method", "random,pfk", *RAY)
    assert results(again.stdout) == results(alone.stdout)
    assert contents(here / "runs") == found
    assert written(here / "runs") == times


@pytest.fixture
def started(here):
    """A command whose two tasks have finished a round, and its processes."""
    command = [sys.executable, "-m", "fkal.cli.main", "run", *LONG, *RAY, "--json"]
    with (here / "out").open("w") as out, (here / "err").open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
    while len(list(here.glob("runs/state/*/round-01.json"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    yield process, psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()


def worker_of(name: str, processes: list[psutil.Process]) -> psutil.Process:
    return next(each for each in processes if f"ray::{name}" in " ".join(each.cmdline()))


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(900)
def test_a_killed_worker_changes_no_pick(started, here):
    process, processes = started
    worker_of("digits-ir20-random-s1", processes).kill()
    assert process.wait(timeout=250) == 0
    told = (here / "err").read_text()
    assert "digits-ir20-random-s1: its worker was lost; another one goes on" in told
    assert "digits-ir20-random-s1: going on after round" in told
    alone = run(*LONG, "--out", "alone", "--tracking-uri", "sqlite:///alone.db")
    assert results((here / "out").read_text()) == results(alone.stdout)


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(900)
def test_a_terminated_command_ends_its_cluster_and_closes_its_runs(started, here):
    process, processes = started
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) == 143
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
    assert (here / "err").read_text().splitlines()[-1].startswith("error: terminated; the same command goes on")
    assert (here / "out").read_text() == ""
    client = MlflowClient(tracking_uri=f"sqlite:///{here / 'mlflow.db'}")
    runs = client.search_runs(["1"], "tags.`fkal.kind` = 'experiment'")
    assert [each.info.status for each in runs] == ["KILLED", "KILLED"]


@pytest.mark.slow
@pytest.mark.clusters
@pytest.mark.timeout(900)
def test_a_failed_experiment_fails_alone(here):
    told = run(*QUICK, "--method", "random", "--seeds", "0-1", "--set", "train.lr=1e20", *RAY, code=3)
    assert "2 of 2 experiments failed" in told.stderr
    assert told.stderr.count("the training loss is nan") == 4


def test_what_is_finished_needs_no_ray(here, monkeypatch):
    quick = ["--preset", "digits", "--set", "pretrain.task=none", "--set", "train.epochs=1",
             "--set", "acquisition.rounds=1", "--method", "random"]  # fmt: skip
    first = run(*quick)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("executor", "parts", "tasks"):
        monkeypatch.delitem(sys.modules, f"fkal.runner.ray_{name}", raising=False)
    assert results(run(*quick, *RAY).stdout) == results(first.stdout)
    assert "pip install 'fkal[ray]'" in run(*quick, "--seeds", "1", *RAY, code=2).stderr


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--ray-address", "auto"], "--ray-address auto is for --executor ray"),
        (["--gpus-per-run", "0.25"], "--gpus-per-run 0.25 is for --executor ray"),
        (["--executor", "rai"], "did you mean 'ray'?"),
        (["--executor", "ray", "--gpus-per-run", "1.5"], "give a part of one GPU"),
        (["--executor", "ray", "--ray-address", "ray://host:10001"], "without ray://"),
        (["--executor", "ray", "--ray-address", "host"], "give HOST:PORT"),
        (["--executor", "ray", "--ray-address", "127.0.0.1:99999"], "give HOST:PORT"),
        (["--executor", "ray", "--ray-address", "127.0.0.1:0"], "give HOST:PORT"),
        (["--executor", "ray", "--ray-address", "auto", "--jobs", "2"], "--jobs 2"),
    ],
)
def test_options_that_cannot_be_are_refused(here, options, part):
    assert part in run(*QUICK, "--dry-run", *options, code=2).stderr


@pytest.mark.parametrize("gpus", [-1.0, float("nan"), float("inf"), 2.5, 4096.0])
def test_no_such_share_of_gpus_is_refused(gpus):
    with pytest.raises(ConfigError, match="--gpus-per-run"):
        refuse_wrong_options(None, 1, RayCluster(None, gpus))


@pytest.mark.parametrize("gpus", [None, 0.0, 0.25, 1.0, 8.0])
def test_shares_of_gpus_that_can_be_are_taken(gpus):
    refuse_wrong_options(None, 1, RayCluster("10.0.0.5:6379", gpus))


def test_a_cluster_that_does_not_answer_is_one_line(here):
    told = run(*QUICK, "--method", "random", "--executor", "ray", "--ray-address", "127.0.0.1:1", code=2).stderr
    assert (
        told.count("error: ") == 1 and "--ray-address 127.0.0.1:1: no Ray cluster answers (Connection refused)" in told
    )


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.b"])
def test_a_host_that_no_machine_can_be_called_is_refused(here, host):
    told = run(*QUICK, "--method", "random", "--executor", "ray", "--ray-address", f"{host}:1", code=2).stderr
    assert f"--ray-address {host}:1: no Ray cluster answers ({host} is no name of a machine)" in told


def test_a_recorded_cluster_that_is_gone_is_named_at_once(here, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    told = run(*QUICK, "--method", "random", "--executor", "ray", "--ray-address", "auto", code=2).stderr
    assert re.search(r"--ray-address auto: no Ray cluster answers \([\d.]+:1: Connection refused\)", told)


def test_a_gpu_for_an_experiment_on_the_cpu_is_refused(here):
    told = run(*QUICK, "--set", "device=cpu", "--executor", "ray", "--gpus-per-run", "0.25", code=2).stderr
    assert "digits-ir20-pfk_joint-s0 computes on cpu" in told


class Bars:
    """Keeps the calls that would show something."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __getattr__(self, name: str):
        return lambda *values: self.calls.append((name, *values))


def test_what_was_shown_of_a_lost_try_is_taken_away():
    from fkal.runner.ray_executor import _listener
    from fkal.runner.worker import Report

    bars, said = Bars(), []
    heard = _listener(bars, said.append)
    for done in (0, 1):
        heard(Report(5, "began", ("name", 3, done)))
    heard(Report(5, "left", ()))
    heard(Report(5, "began", ("name", 3, 3)))
    assert bars.calls == [
        ("began", 5, "name", 3, 0),
        ("left", 5),
        ("began", 5, "name", 3, 1),
        ("left", 5),
        ("began", 5, "name", 3, 3),
    ]
    assert said == ["name: its worker was lost; another one goes on"]


def test_ray_reserves_the_threads_of_an_experiment():
    from fkal.runner.ray_executor import _need

    on_cpu = {"device": "cpu"}
    assert _need(Config(threads=3, **on_cpu), RayCluster()) == (3, 0.0)
    assert _need(Config(**on_cpu), RayCluster()) == (torch.get_num_threads(), 0.0)


def test_a_machine_that_would_run_another_experiment_says_so(here):
    from fkal.config.layers import load, preset
    from fkal.runner import worker

    class Nowhere:
        def put(self, report: worker.Report) -> None: ...

    config = load(preset("digits"), environment={})
    worker.report_to(Nowhere(), 0)
    worker.take_threads(torch.get_num_threads())
    with pytest.raises(ValueError, match="would run another experiment than the command's machine, on cpu"):
        worker.work(config, here / "runs", None, True, fingerprint="0" * 32)


def test_a_folder_that_a_machine_lacks_is_named(here):
    from fkal.runner.ray_executor import _enter, _Site

    (here / "runs").mkdir()
    site = _Site(torch.get_num_threads(), here / "gone", here / "runs", ".cluster-x")
    with pytest.raises(ValueError, match=r"gone is not on .*; give the command in a folder that all machines share"):
        _enter(site)
    with pytest.raises(ValueError, match=r"--out .*runs is another folder on .*; name one that all machines share"):
        _enter(site._replace(folder=here))
    (here / "runs" / ".cluster-x").touch()
    _enter(site._replace(folder=here))
