"""What a machine can do to a run: a full disk, a folder that cannot be written, a locked store, a server that goes,
torn files, a clock that goes back. Each time nothing is lost, one line says what to do, and the same command goes on.
"""

import itertools
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.locks import NamedLock
from fkal.results.checkpoint import Checkpoint
from fkal.tracking import patience

QUICK = [
    "--preset", "digits",
    "--set", "pretrain.epochs=1",
    "--set", "train.epochs=2",
    "--set", "acquisition.rounds=2",
    "--method", "random",
]  # fmt: skip
LONGER = {"acquisition.rounds=2": "acquisition.rounds=12", "train.epochs=2": "train.epochs=60"}
START_SECONDS = 60

pytestmark = [
    pytest.mark.kills,
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # of MLflow
    ),
]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def run(*options: str, code: int = 0):
    return fkal("run", *QUICK, *options, "--json", code=code)


def results(told: str) -> list:
    """What must be equal, whatever happened on the way."""
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in json.loads(told)["experiments"]]


def the_line(text: str) -> str:
    """The one line of an error."""
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in text, text
    assert len(lines[0]) < 700, lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder in which a run has finished."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "told.json").write_text(run().stdout)
    return folder


@pytest.fixture
def expected(whole) -> list:
    return results((whole / "told.json").read_text())


@pytest.fixture
def copied(whole, here) -> Path:
    """A copy of it, whose store is new."""
    shutil.copytree(whole / "runs", here / "runs")
    return here


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system, where this machine lets us have one."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Writes beyond this size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("kilobytes", [16, 150])
def test_a_full_disk_names_the_path_and_the_same_command_goes_on(here, expected, kilobytes):
    with mounted(here / "small", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs") as small:
        line = the_line(run("--out", str(small), code=1).stderr)
        assert f"{small}/" in line and "No space left" in line and "make room there" in line
        assert not [path for path in small.rglob("*") if path.name.endswith(".tmp")]
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert results(run("--out", str(small)).stdout) == expected


@pytest.mark.parametrize("kilobytes", [4, 100, 300])
def test_a_disk_that_is_full_while_the_store_is_made_leaves_nothing_of_it(here, kilobytes):
    from fkal.tracking.store import prepare_store

    with files_limited_to(kilobytes * 1024), pytest.raises(ValueError, match=r"(disk|full|large)"):
        prepare_store(f"sqlite:///{here}/mlflow.db")
    assert {path.name for path in here.iterdir()} == {"mlflow.db.lock"}
    assert len(prepare_store(f"sqlite:///{here}/mlflow.db").search_experiments()) == 1


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="mounting needs root")
def test_a_folder_that_cannot_be_written_is_named_before_any_work(here):
    with mounted(here / "fixed", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        assert f"--out {here / 'fixed'}" in the_line(run("--out", str(here / "fixed"), code=2).stderr)
        store = f"sqlite:///{here}/fixed/mlflow.db"
        line = the_line(run("--tracking-uri", store, code=2).stderr)
        assert f"{here}/fixed" in line and "--tracking-uri" in line


@pytest.mark.slow
def test_a_store_that_stays_locked_keeps_the_iterations_and_the_same_command_tracks_them(
    here, expected, store, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    done = Event()

    def hold() -> None:
        while not list(here.glob("runs/state/*/round-01.safetensors")) and not done.wait(0.001):
            pass
        with closing(sqlite3.connect(here / "mlflow.db", timeout=60)) as database:
            database.execute("BEGIN IMMEDIATE")
            done.wait(120)

    holder = Thread(target=hold)
    holder.start()
    try:
        result = run(code=1)
    finally:
        done.set()
        holder.join()
    line = the_line(result.stderr)
    assert "locked" in line and "same command" in line and "SELECT" not in result.stderr
    kept = {path: path.read_bytes() for path in here.glob("runs/state/*/round-*")}
    assert kept
    assert results(run().stdout) == expected
    assert all(path.read_bytes() == content for path, content in kept.items())
    (tracked,) = parents(here)
    assert tracked.info.status == "FINISHED"


def parents(folder: Path) -> list:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (found,) = client.search_experiments(filter_string="name = 'fkal/digits'")
    return client.search_runs([found.experiment_id], "tags.`fkal.kind` = 'experiment'")


@pytest.mark.slow
def test_a_server_that_goes_ends_the_run_with_one_line_and_the_same_command_goes_on(here, expected, store):
    port = free_port()
    with served(here, store, port) as (server, address):
        gone = Thread(target=kill_once_a_round_is_kept, args=(here, server))
        gone.start()
        line = the_line(run("--tracking-uri", address, code=1).stderr)
        gone.join()
    assert address in line and "does not answer any more" in line and "same command" in line
    with served(here, store, port):
        assert results(run("--tracking-uri", address).stdout) == expected


def kill_once_a_round_is_kept(folder: Path, server: subprocess.Popen) -> None:
    while not list(folder.glob("runs/state/*/round-01.safetensors")) and server.poll() is None:
        time.sleep(0.001)
    os.killpg(server.pid, signal.SIGKILL)


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(folder: Path, store: str, port: int) -> Iterator[tuple[subprocess.Popen, str]]:
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **quiet}, cwd=folder,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    last = time.monotonic() + START_SECONDS
    try:
        while not answers(f"{address}/health"):
            assert server.poll() is None and time.monotonic() < last
            time.sleep(0.2)
        yield server, address
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=START_SECONDS)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


KINDS = {
    "state/*/round-01.json": "is unusable",
    "state/*/round-02.safetensors": "is unusable",
    "state/*/about.json": "does not describe an experiment",
    "state/*/notes.json": "",
    "splits/*.json": "drawn again",
    "pretrained/*.safetensors": "made again",
}
"""Files that a run leaves, and what is said where one is torn; notes can be found again in the store."""


@pytest.mark.parametrize("kind", KINDS)
def test_torn_files_are_named_and_made_again(copied, expected, kind):
    (path,) = copied.glob(f"runs/{kind}")
    content = path.read_bytes()
    for length in (0, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:length])
        if kind.startswith("pretrained"):  # read by a round alone
            for kept in copied.glob("runs/state/*/round-02.json"):
                kept.unlink()
        result = run()
        assert results(result.stdout) == expected
        assert KINDS[kind] in result.stderr
        if KINDS[kind]:
            assert str(path.relative_to(copied)) in result.stderr or path.stem in result.stderr


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_a_torn_store_is_refused_with_the_way_out_and_left_alone(here, store, share):
    path = here / "mlflow.db"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    before = path.read_bytes()
    line = the_line(run(code=2).stderr)
    assert str(path) in line and "--tracking-uri" in line
    assert path.read_bytes()[100:] == before[100:]  # SQLite's header counts who opened it


def test_one_digit_of_an_accuracy_is_noticed_and_the_tracked_run_stays(whole, here, expected):
    for name in ("runs", "mlartifacts"):
        shutil.copytree(whole / name, here / name)
    with closing(sqlite3.connect(whole / "mlflow.db")) as old, closing(sqlite3.connect(here / "mlflow.db")) as new:
        old.backup(new)
    (before,) = parents(here)
    (path,) = here.glob("runs/state/*/round-02.json")
    facts = json.loads(path.read_text())
    facts["metrics"]["test/accuracy"] = 0.123
    path.write_text(json.dumps(facts, indent=1))
    result = run()
    assert "round-02.json: round 2 is unusable" in result.stderr and "nothing to do" not in result.stderr
    assert results(result.stdout) == expected
    (after,) = parents(here)
    assert (after.info.run_id, after.data.tags.get("fkal.superseded_key")) == (before.info.run_id, None)
    assert path.with_name("round-02.json.unusable").exists()


@pytest.mark.parametrize("moment", ["files of the future", "a clock that goes back"])
def test_neither_times_of_files_nor_the_clock_change_results(copied, expected, moment, monkeypatch):
    if moment == "files of the future":
        for path in copied.rglob("runs/**/*"):
            os.utime(path, (4e9, 4e9))
    else:
        now = time.time()
        steps = itertools.count()
        monkeypatch.setattr(time, "time", lambda: now - 3600.0 * next(steps))
        shutil.rmtree(copied / "runs")
    result = run()
    assert results(result.stdout) == expected
    assert "unusable" not in result.stderr
    (tracked,) = parents(copied)
    client = MlflowClient(tracking_uri=f"sqlite:///{copied}/mlflow.db")
    history = client.get_metric_history(tracked.info.run_id, "accuracy/test")  # which MLflow sorts by the clock
    assert sorted(m.step for m in history) == [20, 40]
    (listed,) = json.loads(fkal("runs", "--json").stdout)["runs"]
    assert listed["labels_used"] == 40 and listed["accuracy"] == expected[0][2][-1]["test/accuracy"]


def test_two_identical_runs_wait_for_each_other_and_both_end_well(here, expected):
    said: list[str] = []
    (plan,) = json.loads(fkal("run", *QUICK, "--dry-run", "--json").stdout)["plan"]
    refused = None
    with Checkpoint(here / "runs", plan["fingerprint"]):
        refused = the_line(run("--no-wait", code=1).stderr)
        second = Thread(target=lambda: said.append(run().stdout))
        second.start()
        time.sleep(3)
        assert second.is_alive() and said == []
    second.join()
    assert f"is held by process {os.getpid()} on {socket.gethostname()} since 20" in refused
    assert results(said[0]) == expected


def test_a_lock_is_waited_for_with_a_line_that_names_its_holder(here, said, monkeypatch):
    monkeypatch.setattr("fkal.locks.LINE_SECONDS", 0.2)
    held = NamedLock(here / "a.lock")
    with held:
        waiting = Thread(target=lambda: NamedLock(here / "a.lock", said.append, quiet_seconds=0.1).__enter__())
        waiting.start()
        while len(said) < 3:
            time.sleep(0.05)
    waiting.join()
    assert set(said) == {said[0]}
    assert said[0].startswith(f"waiting for {here}/a.lock, which is held by process {os.getpid()} on ")


@pytest.mark.parametrize("jobs", [[], ["--method", "random,pfk_joint", "--jobs", "2"]])
def test_sigterm_keeps_what_is_finished_and_exits_143(here, jobs):
    long = ["run", *(LONGER.get(word, word) for word in QUICK), *jobs]
    process = subprocess.Popen(
        [sys.executable, "-m", "fkal.cli.main", *long], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    while not list(here.glob("runs/state/*/round-01.json")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM) if jobs else process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "terminated; the same command goes on" in the_line(said)
    assert {run.info.status for run in parents(here)} == {"KILLED"}
    assert list(here.glob("runs/state/*/round-01.json"))


def test_sigterm_ends_a_study_with_143_and_its_trial_is_queued_again(here):
    study = [
        "tune", "--dataset", "digits", "--method", "random", "--trials", "1", "--space", "lr", "--json",
        "--set", "pretrain.task=none", "--set", "acquisition.rounds=3", "--set", "train.epochs=60",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "fkal.cli.main", *study], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not list(here.glob("runs/state/*/round-01.json")) and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    again = fkal(*study)
    assert "its worker is gone; it is queued again" in again.stderr
    assert [trial["state"] for trial in json.loads(again.stdout)["trials"]] == ["fail", "complete"]


def test_three_runs_at_once_on_a_fresh_store_all_finish(here):
    command = [sys.executable, "-m", "fkal.cli.main", "run", *QUICK]
    three = [
        subprocess.Popen([*command, "--seeds", seed], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for seed in ("0", "0", "1")
    ]
    told = [process.communicate(timeout=280)[1] for process in three]
    assert [process.returncode for process in three] == [0, 0, 0], told
    assert sorted(run.data.tags["fkal.seed"] for run in parents(here)) == ["0", "1"]
