"""`benchmarks/results.py run`, `take` and `check`: days of computing add up, and rows hold."""

import importlib
import os
import signal
import time
from contextlib import contextmanager

import pandas as pd
import pytest

from fkal.notify import Display, ManyUnseen, Unseen


class EndsAfter(Unseen):
    """Sends this process a signal after so many rounds."""

    rounds = 3
    number = signal.SIGTERM
    seen = 0

    def advance(self) -> None:
        EndsAfter.seen += 1
        if EndsAfter.seen == self.rounds:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def interrupted(small, monkeypatch):
    """The script, ended by SIGTERM after its third round: one experiment of two rounds is finished, one begun."""
    EndsAfter.seen = 0
    monkeypatch.setattr(small.results, "round_display", lambda as_json: Display(print, EndsAfter, ManyUnseen))
    return small


def test_a_run_that_was_terminated_keeps_its_rows_goes_on_and_then_computes_nothing(interrupted):
    ended = interrupted("run")
    assert ended.exit_code == 143
    assert "4 of 4 experiments are missing, about 4.0 CPU-hours" in ended.output
    kept = pd.read_csv(interrupted.rows)
    assert kept[["method", "seed", "b"]].values.tolist() == [["random", 0, 1], ["random", 0, 2]]

    resumed = interrupted("run")
    assert resumed.exit_code == 0, resumed.output
    assert "3 of 4 experiments are missing" in resumed.output
    assert "going on after round 1 of 2" in resumed.output
    rows = pd.read_csv(interrupted.rows)
    assert rows.groupby(["method", "seed"]).size().to_dict() == dict.fromkeys(
        [("margin", 0), ("margin", 1), ("random", 0), ("random", 1)], 2
    )
    assert EndsAfter.seen == 8  # no round was made twice

    before = interrupted.files
    again = interrupted("run")
    assert again.exit_code == 0 and "0 of 4 experiments are missing" in again.output
    assert EndsAfter.seen == 8
    assert interrupted.files == before


def test_methods_come_seed_by_seed_and_what_is_not_asked_for_is_left_out(small):
    assert small("run", "--seeds", "0", "--methods", "margin").exit_code == 0
    assert set(pd.read_csv(small.rows)["method"]) == {"margin"}
    dry = small("run", "--dry-run")
    assert "small: 3 missing" in dry.output and "random, margin" in dry.output
    jobs = small.results.chosen_jobs(small.results.read_plan(small.plan).chosen(None), small.results.Machine())
    assert [(job.method, job.seed) for job in jobs] == [("random", 0), ("margin", 0), ("random", 1), ("margin", 1)]


def test_minutes_that_are_over_interrupt_and_ctrl_c_stays_ctrl_c(small):
    computing = small.results.computing
    with pytest.raises(computing.TimeUp), computing.for_minutes(0.001):
        time.sleep(60)
    with pytest.raises(KeyboardInterrupt) as raised, computing.for_minutes(60):
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(raised.value, computing.TimeUp)


def test_a_run_whose_minutes_are_over_ends_well_and_writes_the_tables(small, monkeypatch):
    small("run", "--seeds", "0", "--methods", "random")
    table = small.page.read_text()
    small.page.write_text(table.replace("`random`", "`changed`"))

    @contextmanager
    def over_at_once(minutes: float):
        raise small.results.computing.TimeUp
        yield

    monkeypatch.setattr(small.results.computing, "for_minutes", over_at_once)
    over = small("run", "--minutes", "7.5")
    assert over.exit_code == 0
    assert "7.5 minutes are over; the same command goes on" in over.output
    assert small.page.read_text() == table


def test_rows_of_another_fingerprint_are_stale_and_replaced(small):
    small("run", "--seeds", "0")
    before = small.files
    rows = pd.read_csv(small.rows, dtype=str)
    rows.loc[rows["method"] == "margin", ["fingerprint", "test/accuracy"]] = ["0" * 32, "0.5"]
    rows.to_csv(small.rows, index=False)
    said = small("run", "--seeds", "0", "--dry-run").output
    assert "small: 1 missing (1 of them with rows of another fingerprint)" in said
    assert small("run", "--seeds", "0").exit_code == 0
    assert small.files == before


def test_other_settings_make_all_rows_stale(small):
    small("run", "--seeds", "0", "--methods", "random")
    small.set_epochs(2)
    said = small("run", "--seeds", "0", "--methods", "random", "--dry-run").output
    assert "1 missing (1 of them with rows of another fingerprint)" in said


def test_experiments_that_fkal_run_finished_are_taken(small, tmp_path):
    small("run", "--out", "elsewhere", "--seeds", "0")
    rows, costs = small.files
    small.rows.unlink()
    small.costs.unlink()
    state = tmp_path / "elsewhere" / "state"
    kept = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    said = small("take", str(state), "--out", "here")
    assert said.exit_code == 0 and "2 experiments taken, 2 are missing" in said.output
    assert small.files == (rows, costs)
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == kept


def changed(small, *accuracies: str) -> None:
    """The rows as if they had been measured so."""
    rows = pd.read_csv(small.rows, dtype=str)
    rows.assign(**{"test/accuracy": accuracies}).to_csv(small.rows, index=False)


def test_check_passes_and_fails_on_a_changed_number(small):
    small("run", "--seeds", "0", "--methods", "random")
    passed = small("check", "--seeds", "0")
    assert passed.exit_code == 0, passed.output
    assert "1 experiments compared: 1 to the digit" in passed.output and "the rows hold" in passed.output

    first, second = pd.read_csv(small.rows)["test/accuracy"]
    changed(small, f"{first:.6g}", f"{second + 0.001:.6g}")
    failed = small("check", "--seeds", "0")
    assert failed.exit_code == 1
    assert "small random s0" in failed.output and f"{second:.6g}" in failed.output


def test_on_another_processor_a_point_of_the_mean_or_three_standard_errors_are_allowed(small):
    small("run", "--methods", "random")
    checking = importlib.import_module("result_pages.checking")
    rows, jobs = pd.read_csv(small.rows), small.results.chosen_jobs([small.grid], small.results.Machine(), "random")

    def pairs(offset: float, is_same_machine: bool, scatter: float = 0.0) -> list:
        now = rows.assign(**{"test/accuracy": rows["test/accuracy"] + offset})
        return [
            checking.Pair(job, checking.of_job(rows, job), checking.of_job(now, job), is_same_machine, scatter)
            for job in jobs
        ]

    assert checking.differences(pairs(0.009, False)) == []
    far = pairs(0.011, False)
    (difference,) = checking.differences(far)
    assert difference.experiment == "small random s0, s1" and difference.figure == "AUBC"
    assert float(difference.now) - float(difference.committed) == pytest.approx(1.1, abs=0.011)
    assert "now, 1.00 are allowed" in "\n".join(checking.report(far, [difference]))
    # Two seeds on either side: three standard errors of the difference are three deviations.
    assert checking.differences(pairs(0.029, False, scatter=1.0)) == []
    assert checking.differences(pairs(0.031, False, scatter=1.0))
    assert {each.figure for each in checking.differences(pairs(0.009, True))} == {"test/accuracy"}
    assert checking.differences(pairs(0.0, True)) == []


def test_the_scatter_of_a_method_is_that_of_the_areas_of_its_seeds(small):
    checking = importlib.import_module("result_pages.checking")
    (job, *_) = small.results.chosen_jobs([small.grid], small.results.Machine(), "random")
    levels = {0: 0.5, 1: 0.54, 2: 0.58}
    rows = pd.DataFrame(
        {"grid": "small", "method": method, "seed": seed, "b": b, "labels_used": 10 * b, "test/accuracy": level}
        for method, lift in [("random", 0), ("coreset", 0.3)]
        for seed, level in ((seed, level + lift * seed) for seed, level in levels.items())
        for b in (1, 2)
    )
    assert checking.scatter(rows, job) == pytest.approx(4.0)
    assert checking.scatter(rows[rows.seed == 0], job) == 0


@pytest.mark.slow
def test_experiments_side_by_side_have_the_same_rows(small):
    small("run")
    rows, _ = small.files
    small.rows.unlink()
    small.costs.unlink()
    beside = small("run", "--jobs", "2", "--out", "beside")
    assert beside.exit_code == 0, beside.output
    assert small.files[0] == rows


def test_check_names_what_has_no_rows(small):
    said = small("check", "--seeds", "0")
    assert said.exit_code == 4
    assert "no rows of small random s0" in said.output


def test_a_grid_that_there_is_not_is_refused(small):
    said = small("run", "--grid", "smal", "--dry-run")
    assert said.exit_code == 2
    assert "did you mean 'small'?" in said.output
