"""`kill -9` at random moments of select and train, then the same command again: the picks and weights are the same.

One kill of each command belongs to `make test-slow`; FKAL_KILLS=20 makes it 20.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fkal.labeling.batch import all_batches
from fkal.labeling.project import Project
from fkal.labeling.rounds import next_, select, train
from fkal.labeling.trainings import trainings

KILLS = int(os.environ.get("FKAL_KILLS", "1"))
GONE_SECONDS = 240

pytestmark = [pytest.mark.kills, pytest.mark.timeout(3600)]


def started(verb: str, folder: Path) -> subprocess.Popen:
    """The command, once it holds the project's lock: importing torch is over then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FKAL_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "fkal.cli.main", verb, "--project", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    last = time.monotonic() + GONE_SECONDS
    while not (folder / ".fkal/lock.holder").exists() and process.poll() is None and time.monotonic() < last:
        time.sleep(0.005)
    return process


def seconds_of(verb: str, folder: Path) -> float:
    """How long the undisturbed command takes once it holds the lock."""
    process, begin = started(verb, folder), time.monotonic()
    assert process.wait(timeout=GONE_SECONDS) == 0
    return time.monotonic() - begin


def kill(verb: str, folder: Path, *, after: float) -> bool:
    """Whether the command was still at work."""
    process = started(verb, folder)
    time.sleep(after)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def picks(folder: Path) -> list:
    return [(batch.name, batch.images) for batch in all_batches(folder / "rounds")]


def results(folder: Path) -> list:
    """What must be equal: the digest of the weights and the figures, apart from times."""
    return [
        (each.b, each.made_of, each.round["sha256"], each.metrics, {**each.facts})
        for each in trainings(Project.open(folder))
    ]


def test_kills_of_select_and_train_change_no_pick_and_no_weight(signs, tmp_path):
    made = signs()
    fresh, whole = made.project.folder, made.project.folder.parent / "whole"
    shutil.copytree(fresh, whole)
    taken = {"select": seconds_of("select", whole)}
    made.answer(select(Project.open(whole)).batch, of=whole)
    labeled = fresh.parent / "labeled"
    shutil.copytree(whole, labeled)
    taken["train"] = seconds_of("train", whole)
    next_(Project.open(whole))
    draws, at_work = random.Random(0), 0
    for kills in range(KILLS):
        one = fresh.parent / f"select{kills}"
        shutil.copytree(fresh, one)
        at_work += kill("select", one, after=draws.uniform(0, taken["select"]))
        select(Project.open(one))
        assert picks(one) == picks(whole)[:1]
        other = fresh.parent / f"train{kills}"
        shutil.copytree(labeled, other)
        before = (other / "labels.csv").read_bytes()
        at_work += kill("train", other, after=draws.uniform(0, taken["train"]))
        train(Project.open(other))
        assert results(other) == results(whole)
        assert (other / "labels.csv").read_bytes() == before
        next_(Project.open(other))
        assert picks(other) == picks(whole)
    assert at_work > 0
