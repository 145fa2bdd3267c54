"""Two processes that torchrun starts run the experiments of one, with its picks; what they cannot share is refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.launch import Launch, launch

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
DIGITS = ("--preset", "digits", "--set", "pretrain.epochs=1", "--set", "acquisition.rounds=3")
QUICK = (*DIGITS, "--set", "train.epochs=4")


def options(out: Path) -> list[str]:
    return ["--out", str(out), "--tracking-uri", f"sqlite:///{out}.db"]


def torchrun(*words: str) -> list[str]:
    started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fkal", "run"]
    return [sys.executable, *started, *words]


def by_two(words: Sequence[str], out: Path) -> str:
    """What two processes print on standard output."""
    ended = subprocess.run(
        torchrun(*words, *options(out)), capture_output=True, text=True, timeout=280, env=os.environ | one_thread()
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def by_one(words: Sequence[str], out: Path) -> str:
    result = CliRunner().invoke(app, ["run", *words, *options(out)])
    assert result.exit_code == 0, result.output
    return result.stdout


def one_thread() -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1"}


def tensors(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Of each round: picks, labels, scores, confusion and weights."""
    files = sorted(out.glob("state/*/round-*.safetensors"))
    return {str(file.relative_to(out)): load_file(file) for file in files}


def assert_same(out: Path, other: Path, *, rounds: int) -> None:
    """Fingerprints are in the names of the folders, so they are compared as well."""
    first, second = tensors(out), tensors(other)
    assert first.keys() == second.keys() and len(first) == rounds
    for name, found in first.items():
        assert all(torch.equal(value, second[name][key]) for key, value in found.items()), name


@pytest.mark.slow
def test_two_processes_give_the_picks_and_weights_of_one(tmp_path):
    words = (*QUICK, "--method", "random,margin,pfk_joint,fisher_coverage", "--seeds", "0-1", "--json")
    printed = by_two(words, tmp_path / "two")
    assert printed.count("\n") == 1 == by_one(words, tmp_path / "one").count("\n")
    assert_same(tmp_path / "one", tmp_path / "two", rounds=4 * 2 * 3)


@pytest.mark.slow
@pytest.mark.clusters
def test_two_processes_that_share_each_batch_give_the_picks_and_weights_of_one_in_two_parts(tmp_path):
    words = (*QUICK, "--method", "margin,fisher_coverage", "--seeds", "0-1", "--set", "batch_parts=2", "--json")
    by_two(words, tmp_path / "two")
    by_one(words, tmp_path / "one")
    assert_same(tmp_path / "one", tmp_path / "two", rounds=2 * 2 * 3)


@pytest.mark.slow
@pytest.mark.clusters
def test_a_run_whose_second_process_is_killed_ends_and_goes_on_to_the_same_result(tmp_path):
    words = (*DIGITS, "--method", "margin", "--set", "batch_parts=2", "--set", "train.epochs=60")
    words = (*words, "--set", "train.checkpoint_minutes=0.0001")
    process = subprocess.Popen(
        torchrun(*words, *options(tmp_path / "two")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | one_thread(),
    )
    while not list(tmp_path.glob("two/state/*/unfinished.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(child_of_rank(process.pid, 1), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "goes on from the last finished round" in said
    by_two(words, tmp_path / "two")
    by_one(words, tmp_path / "one")
    assert_same(tmp_path / "one", tmp_path / "two", rounds=3)


def child_of_rank(parent: int, rank: int) -> int:
    """Its process by /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, environment = (folder / "stat").read_text(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and f"RANK={rank}".encode() in environment.split(b"\0"):
            return int(folder.name)
    raise AssertionError("no such process")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("tune", "--preset", "digits"), "fkal tune takes one process, and torchrun started 2"),
        (("report",), "fkal report takes one process"),
        (("run", *QUICK, "--jobs", "2"), "--jobs cannot be used under torchrun"),
        (("run", *QUICK, "--dry-run"), "--dry-run cannot be used under torchrun"),
        (("run", "--project", "mine", "--truth", "t.csv"), "--project cannot be used under torchrun"),
    ],
)
def test_what_several_processes_cannot_share_is_refused_in_a_line(monkeypatch, words, named):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == 2
    assert named in result.stderr and result.stderr.count("\n") == 1


def test_jobs_of_the_environment_are_refused_too(monkeypatch):
    for name, value in {**TORCHRUN, "FKAL_JOBS": "4"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run", *QUICK])
    assert result.exit_code == 2 and "FKAL_JOBS=4 cannot be used under torchrun" in result.stderr


def test_several_machines_are_refused(monkeypatch, tmp_path):
    for name, value in {**TORCHRUN, "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run", *QUICK, *options(tmp_path / "out")])
    assert result.exit_code == 2 and "torchrun started 4 processes, 2 of them on this machine" in result.stderr


def test_a_process_other_than_the_first_prints_nothing(monkeypatch):
    for name, value in {**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run", "--no-such-option"])
    assert (result.exit_code, result.output) == (2, "")


def test_ranks_that_a_scheduler_sets_are_not_torchruns():
    assert launch({"RANK": "3", "WORLD_SIZE": "8"}) == Launch()
    assert launch(TORCHRUN) == Launch(rank=0, processes=2, local_rank=0, local_processes=2)


def test_parts_that_a_batch_cannot_have_are_refused(tmp_path):
    words = ["run", *QUICK, *options(tmp_path / "out"), "--set"]
    result = CliRunner().invoke(app, [*words, "batch_parts=21"])
    assert result.exit_code == 2 and "train.batch_size = 20 has fewer images" in result.stderr
    normalised = ["batch_parts=2", "--set", "model.name=resnet10", "--set", 'acquisition.taps=["layer3"]']
    result = CliRunner().invoke(app, [*words, *normalised])
    assert result.exit_code == 2 and "resnet10 has batch normalisation" in result.stderr
