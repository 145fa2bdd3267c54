"""Several processes on one study, and one that is killed: as a user starts and loses them."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.tuning.study import is_alive, is_lost, this_worker

pytestmark = pytest.mark.slow

COMMAND = [
    "tune", "--dataset", "digits", "--method", "random", "--json",
    "--set", "pretrain.task=none",
    "--set", "train.epochs=10",
    "--set", "acquisition.rounds=3",
    "--space", "lr",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch, store) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def worker(*options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "fkal.cli.main", *COMMAND, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def tuned(*options: str) -> tuple[dict, str]:
    result = CliRunner().invoke(app, [*COMMAND, *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def trial_runs() -> list:
    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    found = client.get_experiment_by_name("fkal/digits-tune")
    return client.search_runs([found.experiment_id], "tags.`fkal.kind` = 'trial'")


def test_two_processes_on_one_study_make_so_many_trials_and_none_twice(here):
    workers = [worker("--trials", "5") for _ in range(2)]
    answers = [(process.communicate(timeout=120), process.returncode) for process in workers]
    assert [code for _, code in answers] == [0, 0], answers
    told = [json.loads(out) for (out, _), _ in answers]
    assert [len(each["trials"]) for each in told] == [5, 5]
    assert told[0]["trials"] == told[1]["trials"]
    assert {trial["state"] for trial in told[0]["trials"]} <= {"complete", "pruned"}
    assert sorted(run.info.run_id for run in trial_runs()) == sorted(t["run_id"] for t in told[0]["trials"])
    lines = [line for (_, err), _ in answers for line in err.splitlines() if line.startswith("trial ")]
    assert sorted(line.split(":")[0] for line in lines) == [f"trial {n}" for n in range(5)]


def test_a_killed_study_goes_on_to_the_trials_of_one_that_was_not(here):
    process = worker("--trials", "4", "--seeds", "0-1", "--out", "killed")
    deadline = time.monotonic() + 120
    while len(list(Path("killed/state").glob("*/round-01.json"))) < 3:  # the second trial, its first seed
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {path: path.stat().st_mtime_ns for path in Path("killed/state").glob("*/round-*")}

    told, said = tuned("--trials", "4", "--seeds", "0-1", "--out", "killed")
    assert "trial 1: its worker is gone; it is queued again" in said
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    lost, retry = told["trials"][1], told["trials"][2]
    assert lost["state"] == "fail" and retry["params"] == lost["params"]
    states = {run.info.run_id: (run.info.status, run.data.tags["fkal.trial_state"]) for run in trial_runs()}
    assert states[lost["run_id"]] == ("KILLED", "lost")

    whole, _ = tuned("--trials", "4", "--seeds", "0-1", "--out", "whole")
    kept = [trial for trial in told["trials"] if trial["state"] != "fail"]
    assert len(kept) == len(whole["trials"]) == 4
    for one, other in zip(kept, whole["trials"], strict=True):
        assert {**one, **dict.fromkeys(("trial", "seconds", "run_id"))} == {
            **other, **dict.fromkeys(("trial", "seconds", "run_id"))
        }  # fmt: skip


def test_of_two_workers_one_is_killed_and_the_other_finishes_the_study(here):
    killed, other = worker("--trials", "4"), worker("--trials", "4")
    deadline = time.monotonic() + 120
    while not [each for each in running() if each.user_attrs["fkal.worker"]["pid"] == killed.pid]:
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()
        time.sleep(0.01)
    assert other.poll() is None, other.communicate()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    out, said = other.communicate(timeout=120)
    assert other.returncode == 0, said
    told = json.loads(out)
    (lost,) = [trial for trial in told["trials"] if trial["state"] == "fail"]
    assert f"trial {lost['trial']}: its worker is gone; it is queued again" in said
    finished = [trial for trial in told["trials"] if trial["state"] in ("complete", "pruned")]
    assert len(finished) == 4 and len(told["trials"]) == 5
    assert lost["params"] in [trial["params"] for trial in finished]


def running() -> list[optuna.trial.FrozenTrial]:
    """Of the only study, those at work that have a worker; none while there is no study."""
    for path in Path("runs/tune").glob("*.journal"):
        try:
            found = journal(path.stem).get_trials(states=(TrialState.RUNNING,))
        except KeyError:
            return []
        return [each for each in found if "fkal.worker" in each.user_attrs]
    return []


def test_a_worker_is_known_by_its_process_and_start():
    me = this_worker()
    assert is_alive(me) and me["pid"] == os.getpid()
    assert not is_alive({**me, "started": me["started"] - 60})
    assert not is_alive({**me, "pid": max(psutil.pids()) + 1000})
    assert is_alive({**me, "host": "elsewhere", "pid": 1})


def test_a_trial_of_another_machine_is_left_to_it(here):
    told, _ = tuned("--trials", "1")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(f"runs/tune/{told['study']}.journal")
    )
    study = optuna.load_study(study_name=told["study"], storage=storage)
    study.ask().set_user_attr("fkal.worker", {"host": "elsewhere", "pid": 1, "started": 0.0})
    again, _ = tuned("--trials", "2")
    assert [trial["state"] for trial in again["trials"]] == ["complete", "running"]


def journal(name: str) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(f"runs/tune/{name}.journal")
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def gone() -> dict:
    return {**this_worker(), "started": this_worker()["started"] - 60}


def asked(study: optuna.Study) -> optuna.Trial:
    """A trial of another process."""
    return study.ask(
        {"train.batch_size": optuna.distributions.IntDistribution(5, 80, log=True),
         "train.lr": optuna.distributions.FloatDistribution(0.005, 0.5, log=True)}
    )  # fmt: skip


def test_a_lost_trial_that_another_process_was_first_to_fail_is_left_to_it(here, monkeypatch):
    told, _ = tuned("--trials", "1")
    study = journal(told["study"])
    lost = asked(study)
    lost.set_user_attr("fkal.worker", gone())

    def meanwhile(trial) -> bool:
        if is_lost(trial):
            study.tell(trial.number, state=TrialState.FAIL)
            return True
        return False

    monkeypatch.setattr("fkal.tuning.study.is_lost", meanwhile)
    again, said = tuned("--trials", "2")
    assert [trial["state"] for trial in again["trials"]] == ["complete", "fail", "complete"]
    assert "queued again" not in said
    assert all(trial.user_attrs.get("fkal.retry_of") is None for trial in study.trials)


@pytest.mark.parametrize(("seconds", "retried"), [(-1.0, True), (60.0, False)])
def test_a_failed_trial_whose_retry_a_kill_prevented_gets_it_in_time(here, monkeypatch, seconds, retried):
    monkeypatch.setattr("fkal.tuning.study.FORGOTTEN_SECONDS", seconds)
    told, _ = tuned("--trials", "1")
    study = journal(told["study"])
    lost = asked(study)
    lost.set_user_attr("fkal.lost", True)
    study.tell(lost, state=TrialState.FAIL)
    tuned("--trials", "2")
    assert ([trial.user_attrs.get("fkal.retry_of") for trial in study.trials].count(lost.number) == 1) is retried


def test_a_trial_that_ends_its_workers_is_given_up_after_three_retries(here):
    told, _ = tuned("--trials", "1")
    study = journal(told["study"])
    for retries, words in [(2, "its worker is gone; it is queued again"), (3, "its worker was gone 4 times")]:
        lost = asked(study)
        lost.set_user_attr("fkal.worker", gone())
        lost.set_user_attr("fkal.retries", retries)
        told, said = tuned("--trials", str(retries))
        assert f"trial {lost.number}: {words}" in said
        assert told["trials"][lost.number]["state"] == "fail"
    assert "given up" in told["trials"][lost.number]["reason"]
    assert all(trial.user_attrs.get("fkal.retry_of") != lost.number for trial in study.trials)


def test_a_trial_without_a_worker_is_lost_after_a_minute(here):
    start = datetime.now()
    young = optuna.trial.create_trial(state=TrialState.RUNNING)
    young.datetime_start = start
    assert not is_lost(young)
    young.datetime_start = start - timedelta(seconds=61)
    assert is_lost(young)


def test_a_database_tells_of_another_machine_whose_worker_is_gone(here, monkeypatch):
    monkeypatch.setattr("fkal.tuning.study.SILENCE_SECONDS", 1)
    storage = f"sqlite:///{here}/study.db"
    told, _ = tuned("--trials", "1", "--storage", storage)
    study = optuna.load_study(study_name=told["study"], storage=storage)
    lost = study.ask()
    lost.set_user_attr("fkal.worker", {"host": "elsewhere", "pid": 1, "started": 0.0, "tells": True})
    study._storage.record_heartbeat(lost._trial_id)
    again, said = tuned("--trials", "2", "--storage", storage)
    assert f"trial {lost.number}: its worker is gone; it is queued again" in said
    assert [trial["state"] for trial in again["trials"]] == ["complete", "fail", "complete"]
