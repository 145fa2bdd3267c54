"""`kill -9` at a random moment, then the same command again: the end is that of an undisturbed run.

Moments are drawn by the number of files that have come into the folder, so a slow machine is killed at the same ones.
One kill of each command belongs to `make test`; FKAL_KILLS=60 makes it 60, as `make test-all` does.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.tracking.store import prepare_store

KILLS = int(os.environ.get("FKAL_KILLS", "1"))
SEEDS = range(KILLS)
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
GONE_SECONDS = 240
QUICK = [
    "--preset", "digits",
    "--set", "pretrain.epochs=1",
    "--set", "train.epochs=2",
    "--set", "acquisition.rounds=2",
]  # fmt: skip
RUN = ["run", *QUICK, "--method", "pfk_joint", "--json"]
SIDE_BY_SIDE = ["run", *QUICK, "--method", "random,pfk_joint", "--jobs", "2", "--json"]
TUNE = [
    "tune", "--dataset", "digits", "--method", "random", "--trials", "2", "--space", "lr", "--json",
    "--set", "pretrain.task=none", "--set", "train.epochs=2", "--set", "acquisition.rounds=2",
]  # fmt: skip

pytestmark = [pytest.mark.kills, pytest.mark.timeout(900)]


def started(command: list[str], cwd: Path) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FKAL_", "MLFLOW_"))}
    environment["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def fkal(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fkal.cli.main", *arguments]


def files_in(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def killed(command: list[str], cwd: Path, *, seed: int, files: int) -> None:
    """Kill the command and all its processes once so many files have come, of up to `files`, and a moment later."""
    draws = random.Random(f"{command[-1]} {seed}")
    before = files_in(cwd)
    wanted, pause = before + draws.randint(1, max(1, files - before)), draws.uniform(0.0, 0.3)
    process = started(command, cwd)
    last = time.monotonic() + GONE_SECONDS
    while files_in(cwd) < wanted and process.poll() is None and time.monotonic() < last:
        time.sleep(0.005)
    time.sleep(pause)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answer(arguments: list[str], folder: Path) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


def results(told: dict) -> list:
    """What must be equal, whatever happened on the way."""
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in told["experiments"]]


def assert_tracked_once(folder: Path, experiments: int, rounds: int) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (found,) = client.search_experiments(filter_string="name = 'fkal/digits'")
    runs = client.search_runs([found.experiment_id], "tags.`fkal.kind` = 'experiment'")
    assert [run.info.status for run in runs] == ["FINISHED"] * experiments
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "accuracy/test")) == rounds
        children = client.search_runs([found.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        assert [child.info.status for child in children] == ["FINISHED"] * rounds


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a command answers in a folder of its own, and how many files it leaves there; each command once."""
    known: dict[str, tuple[dict, int]] = {}

    def told(name: str, arguments: list[str]) -> tuple[dict, int]:
        if name not in known:
            folder = tmp_path_factory.mktemp("undisturbed")
            known[name] = answer(arguments, folder), files_in(folder)
        return known[name]

    return told


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_run_ends_as_an_undisturbed_one(undisturbed, tmp_path, seed):
    whole, files = undisturbed("run", RUN)
    killed(fkal(*RUN), tmp_path, seed=seed, files=files)
    assert results(answer(RUN, tmp_path)) == results(whole)
    assert_tracked_once(tmp_path, experiments=1, rounds=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_run_of_two_workers_ends_as_an_undisturbed_one(undisturbed, tmp_path, seed):
    one_after_another = [word for word in SIDE_BY_SIDE if word not in ("--jobs", "2")]
    whole, files = undisturbed("jobs", one_after_another)
    killed(fkal(*SIDE_BY_SIDE), tmp_path, seed=seed, files=files)
    assert results(answer(one_after_another, tmp_path)) == results(whole)
    assert_tracked_once(tmp_path, experiments=2, rounds=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_study_ends_with_the_trials_of_an_undisturbed_one(undisturbed, tmp_path, seed):
    whole, files = undisturbed("tune", TUNE)
    killed(fkal(*TUNE), tmp_path, seed=seed, files=files)
    told = answer(TUNE, tmp_path)

    def trials(of: dict) -> list:
        return [(t["params"], t["values"], t["state"]) for t in of["trials"] if t["state"] in ("complete", "pruned")]

    assert trials(told) == trials(whole)
    assert told["best"]["params"] == whole["best"]["params"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_whose_making_was_killed_is_made(empty_store, tmp_path, said, seed):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    process = started([sys.executable, "-c", f"from fkal.tracking.store import *; prepare_store({uri!r})"], tmp_path)
    while not list(tmp_path.glob("mlflow.db*")) and process.poll() is None:
        time.sleep(0.002)
    time.sleep(random.Random(seed).uniform(0.0, 3.0))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    client = prepare_store(uri, said.append)
    assert [each.name for each in client.search_experiments()] == ["Default"]
    assert schema(tmp_path / "mlflow.db") == schema(empty_store)
    assert said == [] and not list(tmp_path.glob("mlflow.db.new*"))


def schema(path: Path) -> dict[str, list]:
    """Columns by table, and the names of all else; of constraints the order differs each time."""
    with closing(sqlite3.connect(path)) as database:
        names = sorted(database.execute("SELECT type, name FROM sqlite_master").fetchall())
        columns = {name: database.execute(f"PRAGMA table_info('{name}')").fetchall() for kind, name in names}
        return {**columns, "names": names}


@pytest.fixture(scope="module")
def new_project(tmp_path_factory):
    """Makes a folder as the repository has it for the pipeline, with the least that the pipeline can do."""

    def made() -> Path:
        folder = tmp_path_factory.mktemp("pipeline")
        for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "params", folder / "params")
        shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
        (folder / "src/fkal/experiment").mkdir(parents=True)
        shutil.copy(ROOT / "src/fkal/experiment/versions.py", folder / "src/fkal/experiment")
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params["grid"].update(seeds="0", method=["pfk_joint"])
        params["datasets"]["digits"]["pretrain"].update(epochs=1, decay_epochs=[])
        params["datasets"]["digits"]["train"].update(epochs=2, decay_epochs=[])
        params["datasets"]["digits"]["acquisition"].update(rounds=2, budget=20)
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        return folder

    return made


def published(folder: Path) -> dict[str, bytes]:
    """What the pipeline publishes of its results; timings differ each time."""
    names = [*folder.glob("data/experiments/**/*"), *folder.glob("data/metrics/*"), *folder.glob("data/curves/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names if path.is_file()}


LOCKED_PATHS = ".dvc/tmp/rwlock"
"""Which stage reads and writes what, in JSON, while `dvc repro` works."""


def is_empty(path: Path) -> bool:
    return path.exists() and not path.stat().st_size


@pytest.fixture(scope="module")
def whole_pipeline(new_project) -> tuple[dict[str, bytes], int]:
    folder = new_project()
    assert started([str(BIN / "dvc"), "repro"], folder).wait() == 0
    return published(folder), files_in(folder)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_pipeline_publishes_what_an_undisturbed_one_does(whole_pipeline, new_project, seed):
    whole, files = whole_pipeline
    folder = new_project()
    killed([str(BIN / "dvc"), "repro"], folder, seed=seed, files=files)
    if started([str(BIN / "dvc"), "repro"], folder).wait() != 0:
        # DVC writes two files in place; one that a kill tore it refuses, and without it nothing is lost
        if is_empty(folder / LOCKED_PATHS):
            (folder / LOCKED_PATHS).unlink()
        else:
            assert started([str(BIN / "dvc"), "status"], folder).wait() != 0
            (folder / "dvc.lock").unlink()
        assert started([str(BIN / "dvc"), "repro"], folder).wait() == 0
    assert published(folder) == whole
    assert_tracked_once(folder, experiments=1, rounds=2)


LONG = [
    "run", "--preset", "digits", "--set", "pretrain.task=none", "--set", "acquisition.rounds=1",
    "--set", "train.epochs=1500", "--set", "train.checkpoint_minutes=0.005", "--method", "random", "--json",
]  # fmt: skip


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_round_that_is_ended_within_its_training_goes_on_there(tmp_path, sent):
    (whole := tmp_path / "whole").mkdir()
    (ended := tmp_path / "ended").mkdir()
    assert started(fkal(*LONG), whole).wait(GONE_SECONDS) == 0
    process = started(fkal(*LONG), ended)
    await_file(ended, "runs/state/*/unfinished.safetensors")
    process.send_signal(sent)
    assert process.wait(GONE_SECONDS) == (143 if sent == signal.SIGTERM else -signal.SIGKILL)
    assert not list(ended.glob("runs/state/*/round-01.json")) and list(ended.glob("runs/state/*/unfinished.*"))
    again = subprocess.run(fkal(*LONG), cwd=ended, capture_output=True, text=True, timeout=GONE_SECONDS)
    assert again.returncode == 0
    assert "round 1: going on within its training, after epoch" in again.stderr
    assert not list(ended.glob("runs/state/*/unfinished.*"))
    one, other = (next(folder.glob("runs/state/*/round-01.safetensors")) for folder in (whole, ended))
    assert one.read_bytes() == other.read_bytes()


def await_file(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} came"
        time.sleep(0.05)
