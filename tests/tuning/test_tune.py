"""`fkal tune` as a user holds it, on the digits, with the real Optuna and MLflow."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
import yaml
from mlflow import MlflowClient
from optuna.samplers import RandomSampler
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.schema import ConfigError
from fkal.config.tuned import read_tuned, write_tuned
from fkal.experiment import experiment
from fkal.report.load.local import finished_in
from fkal.results.checkpoint import Checkpoint
from fkal.runner.expand import Sources
from fkal.tuning.objectives import objectives
from fkal.tuning.samplers import pruner_named
from fkal.tuning.search_space import search_space
from fkal.tuning.study import REASON, SharedStudy, storage_named, studies_beside, this_worker
from fkal.tuning.study_spec import StudySpec
from fkal.tuning.trial import run_trial
from fkal.tuning.tuned_result import overridden_settings

TINY = [
    "--set", "pretrain.task=none",
    "--set", "train.epochs=1",
    "--set", "acquisition.rounds=2",
    "--set", "acquisition.budget=10",
]  # fmt: skip

LEARNING = ["--set", "train.epochs=10", "--set", "acquisition.rounds=3", "--set", "acquisition.budget=40"]


@pytest.fixture
def here(tmp_path, monkeypatch, store) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def tuned(*arguments: str, settings: Sequence[str] = TINY) -> dict:
    return json.loads(fkal("tune", "--dataset", "digits", *settings, *arguments, "--json").stdout)


def runs(kind: str, dataset: str = "digits"):
    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    found = client.get_experiment_by_name(f"fkal/{dataset}-tune")
    return client, client.search_runs([found.experiment_id], f"tags.`fkal.kind` = '{kind}'", max_results=1000)


class Sealed:
    """A test set whose images nobody may read; its size and identity may be known."""

    def __init__(self, images) -> None:
        self._images = images

    def __getattr__(self, name: str):
        return getattr(self._images, name)

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, *arguments, **options):
        raise AssertionError("the test set was read")


@pytest.mark.slow
def test_a_study_is_tracked_and_its_best_values_are_kept(here):
    told = tuned("--trials", "3", "--seeds", "0-1")
    assert [trial["state"] for trial in told["trials"]].count("complete") >= 2
    assert told["default"]["trial"] == 0
    assert told["best"]["values"][0] == max(t["values"][0] for t in told["trials"] if t["state"] == "complete")

    client, (study,) = runs("study")
    files = {artifact.path for artifact in client.list_artifacts(study.info.run_id)}
    assert {"best.yaml", "trials.csv", "history.png", "parallel_coordinates.png"} <= files
    _, trials = runs("trial")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    first = next(run for run in trials if run.info.run_id == told["default"]["run_id"])
    assert first.data.tags["fkal.trial_state"] == "complete" and first.info.status == "FINISHED"
    assert first.data.params["sampled.train.batch_size"] == "20" and first.data.params["data.name"] == "digits"
    assert [m.step for m in client.get_metric_history(first.info.run_id, "objective/aubc")] == [10, 20]
    assert first.data.metrics["final/objective/aubc"] == pytest.approx(told["default"]["values"][0])
    _, iterations = runs("round")
    own = [run for run in iterations if run.data.tags["mlflow.parentRunId"] == first.info.run_id]
    assert sorted((run.data.params["seed"], run.data.params["b"]) for run in own) == [
        (seed, b) for seed in "01" for b in "12"
    ]
    assert all("accuracy/holdout" in run.data.metrics for run in own)

    file = read_tuned(Path(told["tuned"]))
    assert file.study.value == told["best"]["values"][0] and not file.study.applied and not told["applied"]
    assert file.study.over == {"train.batch_size": 20, "acquisition.taps": ["conv1", "conv2", "fc1"]}


def test_the_same_command_does_nothing_and_apply_only_applies(here):
    first = tuned("--trials", "2", "--method", "random")
    kept = {path: path.stat().st_mtime_ns for path in Path("runs/state").rglob("round-*")}
    again = tuned("--trials", "2", "--method", "random", "--apply")
    assert again["trials"] == first["trials"] and again["applied"]
    assert {path: path.stat().st_mtime_ns for path in Path("runs/state").rglob("round-*")} == kept
    assert read_tuned(Path(again["tuned"])).study.applied
    assert tuned("--trials", "2", "--method", "random")["applied"]


def test_what_trials_leave_is_no_experiment_of_reports_and_tracking(here):
    tuned("--trials", "2", "--method", "random")
    trials = {path.name for path in Path("runs/state").iterdir()}
    assert trials
    assert "runs/state has no finished rounds" in fkal("sync", code=4).stderr
    assert "no finished rounds" in fkal("report", "--out", "runs", code=4).stderr
    fkal("run", "--dataset", "digits", "--method", "random", *TINY)
    (own,) = {path.name for path in Path("runs/state").iterdir()} - trials
    assert "1 of 1 experiments" in fkal("sync").stdout
    assert "all: 1 experiments came or grew" in fkal("merge", "runs", "--out", "all").stdout
    found = finished_in(Path("runs"), None)
    assert ([each.outcome.fingerprint for each in found.finished], found.left_out) == ([own], [])
    for name, spoil in zip(sorted(trials), (Path.mkdir, lambda notes: notes.write_text(200_000 * "[")), strict=False):
        notes = Path("runs/state", name, "notes.json")
        notes.unlink()
        spoil(notes)
    found = finished_in(Path("runs"), None)
    assert [each.outcome.fingerprint for each in found.finished] == [own]
    assert "1 of 3 experiments" in fkal("sync", code=3).stdout


WAITING = {
    "name": "digits-ir20-pfk_joint-01234567",
    "objective": "aubc",
    "value": 0.8,
    "default": 0.7,
    "seeds": [0],
    "trials": 30,
    "holdout": 6,
    "applied": False,
    "over": {"train.batch_size": 20, "acquisition.pseudo_label": "joint"},
}


def test_apply_without_trials_applies_what_waits_and_runs_nothing(here):
    path = Path("params/tuned/digits.yaml")
    write_tuned(path, {"train.batch_size": 12, "acquisition.pseudo_label": "trace"}, WAITING)
    path.write_text(path.read_text() + "# mine\n")
    before = path.read_text()
    assert "would be applied" in fkal("tune", "--dataset", "digits", "--apply", "--dry-run").stdout
    assert path.read_text() == before
    shown = fkal("tune", "--dataset", "digits", "--apply").stdout
    assert path.read_text() == before.replace("applied: false", "applied: true")
    assert read_tuned(path).study.applied and not read_tuned(path).is_edited
    assert "train.batch_size = 12\n" in shown
    assert "acquisition.pseudo_label = trace, not where a method's name says it (pfk_LABEL)" in shown
    assert json.loads(fkal("tune", "--preset", "digits", "--apply", "--json").stdout)["applied"]
    assert "was applied before" in fkal("tune", "--dataset", "digits", "--apply", "--dry-run").stdout
    assert not Path("runs").exists()


def test_to_apply_takes_neither_torch_nor_a_tracker(here):
    write_tuned(
        Path("params/tuned/digits.yaml"), {"train.batch_size": 12}, {**WAITING, "over": {"train.batch_size": 20}}
    )
    script = (
        "import sys; from typer.testing import CliRunner; from fkal.cli.main import app;"
        "result = CliRunner().invoke(app, ['tune', '--dataset', 'digits', '--apply']);"
        "print(result.exit_code, [name for name in ('torch', 'mlflow', 'optuna') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "0 []\n"


def test_to_apply_a_value_that_experiments_refuse_names_it_and_changes_nothing(here):
    path = Path("params/tuned/digits.yaml")
    write_tuned(path, {"train.batch_size": -10}, {**WAITING, "over": {"train.batch_size": 20}})
    before = path.read_text()
    told = fkal("tune", "--dataset", "digits", "--apply", code=2).stderr
    assert "batch_size = -10" in told and "params/tuned/digits.yaml" in told
    assert path.read_text() == before


@pytest.mark.parametrize(
    "option", [("--method", "random"), ("--space", "lr"), ("--seeds", "0-1"), ("--force",), ("--set", "train.lr=1")]
)
def test_options_of_a_search_are_refused_where_nothing_is_searched(here, option):
    write_tuned(
        Path("params/tuned/digits.yaml"), {"train.batch_size": 12}, {**WAITING, "over": {"train.batch_size": 20}}
    )
    result = fkal("tune", "--dataset", "digits", *option, "--apply", code=2)
    assert f"{option[0]} nothing beside it" in result.stderr and "--trials" in result.stderr
    assert not read_tuned(Path("params/tuned/digits.yaml")).study.applied


def test_a_method_of_the_grid_that_is_none_is_told_before_a_trial(here):
    Path("params.yaml").write_text(
        fkal("grid", "--dataset", "digits", "--method", "random").stdout.replace("method: [random]", "method: [rnadom]")
    )
    result = fkal("tune", "--dataset", "digits", "--method", "random", "--trials", "1", code=2)
    assert "rnadom" in result.stderr and "grid.method" in result.stderr
    assert not Path("runs/state").exists()


def test_to_apply_where_no_experiment_looks_is_refused(here):
    write_tuned(Path("mine/digits.yaml"), {"train.batch_size": 12}, {**WAITING, "over": {"train.batch_size": 20}})
    result = fkal("tune", "--dataset", "digits", "--tuned-dir", "mine", "--apply", code=2)
    assert "experiments read params/tuned/digits.yaml alone" in " ".join(result.stderr.split())
    assert not read_tuned(Path("mine/digits.yaml")).study.applied


def test_a_search_whose_result_no_experiment_would_read_is_not_applied(here):
    options = ["--method", "random", "--trials", "1", "--tuned-dir", "mine", "--apply"]
    for more in ([], ["--dry-run"]):
        result = fkal("tune", "--dataset", "digits", *TINY, *options, *more, code=2)
        assert "experiments read params/tuned/digits.yaml alone" in " ".join(result.stderr.split())
    assert not Path("runs").exists() and not Path("mine").exists()


def test_to_apply_where_nothing_waits_names_the_command_that_makes_one(here):
    result = fkal("tune", "--dataset", "digits", "--apply", code=4)
    assert "no result waits there; search one: fkal tune --dataset digits" in result.stderr


def test_to_apply_what_no_study_wrote_is_refused(here):
    path = Path("params/tuned/digits.yaml")
    path.parent.mkdir(parents=True)
    path.write_text("study: [")
    assert "not valid YAML" in fkal("tune", "--dataset", "digits", "--apply", code=2).stderr
    path.write_bytes(b"train: {lr: \xff}")
    assert "not UTF-8" in fkal("tune", "--dataset", "digits", "--apply", code=2).stderr
    path.write_text("study: {applied: false}\n")
    assert "set it to true by hand" in fkal("tune", "--dataset", "digits", "--apply", code=2).stderr


@pytest.mark.parametrize("change", [("value: 0.5", "value: .nan"), ("batch_size: 12", "batch_sizes: 12")])
def test_to_apply_what_experiments_would_refuse_is_refused(here, change):
    path = Path("params/tuned/digits.yaml")
    write_tuned(path, {"train.batch_size": 12}, {**WAITING, "value": 0.5, "over": {"train.batch_size": 20}})
    path.write_text(path.read_text().replace(*change))
    before = path.read_bytes()
    fkal("tune", "--dataset", "digits", "--apply", code=2)
    assert path.read_bytes() == before


def test_a_tuned_file_is_read_back_by_run_and_plan(here):
    """What the file stands against is the params file alone, whatever the method's name and --set said."""
    grid = fkal("grid", "--dataset", "digits", "--ratio", "20", "--method", "pfk_joint,random", "--seeds", "0").stdout
    Path("params.yaml").write_text(grid)
    told = tuned("--trials", "1", "--method", "pfk_joint@conv2", "--set", "train.batch_size=9", "--apply")
    over = read_tuned(Path(told["tuned"])).study.over
    assert over == {"train.batch_size": 20, "acquisition.taps": ["conv1", "conv2", "fc1"]}
    assert told["without_effect"] == [
        "on random: acquisition.taps = ['conv2'] has no effect, since random does not read it"
    ]

    def planned() -> dict[str, dict]:
        return {each["name"]: each for each in json.loads(fkal("run", "--dry-run", "--json").stdout)["plan"]}

    with_it = planned()["digits-ir20-pfk_joint@conv2-s0"]
    assert with_it["config"]["train"]["batch_size"] == 9 and with_it["config"]["acquisition"]["taps"] == ["conv2"]
    fkal("plan")
    stage = yaml.safe_load(Path("data/plan/digits-20/methods/pfk_joint.yaml").read_text())
    assert stage["settings"]["train"]["batch_size"] == 9 and stage["settings"]["acquisition"]["taps"] == ["conv2"]
    Path(told["tuned"]).unlink()
    assert planned()["digits-ir20-pfk_joint-s0"]["fingerprint"] != with_it["fingerprint"]


def test_what_a_method_name_or_the_environment_says_is_told_to_go_over_tuned_values():
    given = Sources(preset="digits", environment={"FKAL_TRAIN__BATCH_SIZE": "8"}, tuned=None)
    file = merged([from_file(preset("digits"), "digits")])
    values = {"train.batch_size": 12, "acquisition.pseudo_label": "trace", "acquisition.samples": 32}
    assert overridden_settings(values, file, given, "pfk_joint") == [
        "on pfk_joint: acquisition.pseudo_label = trace has no effect, since its name says joint",
        "on pfk_joint: acquisition.samples = 32 has no effect, since pfk_joint does not read it",
        "train.batch_size = 12 has no effect, since the environment says 8",
    ]
    assert overridden_settings(values, file, given, "pfk:k4")[0] == (
        "on pfk:k4: acquisition.samples = 32 has no effect, since its name says 4"
    )


def test_values_that_someone_edited_are_not_replaced(here):
    path = Path(tuned("--trials", "1", "--method", "random")["tuned"])
    path.write_text(path.read_text().replace("batch_size: 20", "batch_size: 21"))
    edited = path.read_text()
    result = fkal("tune", "--dataset", "digits", *TINY, "--method", "random", "--trials", "1", code=2)
    assert "move it away, or replace it with --force" in result.stderr
    assert path.read_text() == edited
    path.write_text("study: [")
    tuned("--trials", "1", "--method", "random", "--force")
    assert not read_tuned(path).is_edited


def test_the_test_set_is_never_read(here, monkeypatch):
    whole = experiment._dataset

    def sealed(data, device, download=True):
        dataset = whole(data, device, download)
        return replace(dataset, test=Sealed(dataset.test))

    monkeypatch.setattr(experiment, "_dataset", sealed)
    assert tuned("--trials", "2", "--method", "random")["best"]
    counted = [json.loads(path.read_text()) for path in Path("runs/state").rglob("round-*.json")]
    assert {each["forward_images"]["evaluate"] for each in counted} == {300}  # 30 validation images per class
    assert not any(name.startswith("test/") for each in counted for name in each["metrics"])
    fkal("run", "--preset", "digits", *TINY, "--method", "random", "--set", "holdout=6")


def test_held_out_images_are_of_every_class_and_no_target(here):
    settings = [text for text in TINY if "=" in text]
    base = [from_file(preset("digits"), "digits"), from_assignments([*settings, "holdout=6"])]
    prepared = experiment.prepare(merged(base), here, print)
    problem = prepared.problem
    labels = problem.train.labels
    assert labels[problem.test].bincount().tolist() == [6] * 10
    assert labels[problem.validation].bincount().tolist() == [24] * 10
    assert torch.equal(torch.cat([problem.test, problem.validation]).sort().values, prepared.split.validation)
    rounds = [event for event in prepared.events() if hasattr(event, "selection")]
    matches = torch.cat([each.selection.matches for each in rounds])
    assert not torch.isin(matches, problem.test).any()
    assert int(rounds[-1].confusion.sum()) == 60


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["holdout=30"], "holdout = 30: the validation set has 30 images per class"),
        (["holdout=-1"], "holdout = -1"),
        (["holdout=3", "protocol=paper"], "epoch=best_on_test chooses by what is measured"),
    ],
)
def test_a_holdout_that_cannot_be_is_refused(here, assignments, words):
    settings = [part for text in assignments for part in ("--set", text)]
    assert words in fkal("run", "--preset", "digits", *TINY, *settings, code=2).stderr


@pytest.mark.slow
def test_hopeless_trials_are_pruned_at_equal_labels(here):
    Path("params.yaml").write_text(
        fkal("config", "--preset", "digits", "--set", "pretrain.task=none", *LEARNING).stdout
        + yaml.safe_dump({"tune": {"space": {"train.lr": {"low": 0.0001, "high": 0.2, "log": True}}}})
    )
    options = ["--method", "random", "--trials", "10", "--sampler", "random", "--holdout", "10", "--json"]
    told = json.loads(fkal("tune", *options).stdout)
    pruned = [trial for trial in told["trials"] if trial["state"] == "pruned"]
    assert pruned and all(trial["labels"] in (40, 80) for trial in pruned)
    assert "hopeless" in pruned[0]["reason"]
    _, tracked = runs("trial")
    assert [run.data.tags["fkal.trial_state"] for run in tracked].count("pruned") == len(pruned)


@pytest.mark.slow
def test_settings_that_completed_a_trial_are_not_pruned_when_they_come_again(here):
    Path("params.yaml").write_text(
        fkal("config", "--preset", "digits", "--set", "pretrain.task=none", *LEARNING).stdout
        + yaml.safe_dump({"tune": {"space": {"train.lr": [1e-5, 0.05, 0.1]}}})
    )
    options = ["--method", "random", "--trials", "12", "--sampler", "random", "--holdout", "10", "--json"]
    trials = json.loads(fkal("tune", *options).stdout)["trials"]
    values = {trial["params"]["train.lr"]: trial["values"] for trial in trials}
    assert len(values) < len(trials)
    assert all(
        (trial["state"], trial["values"]) == ("complete", values[trial["params"]["train.lr"]]) for trial in trials
    )


def the_plan(out: Path, *assignments: str) -> StudySpec:
    """A study of one tap, which half of all random draws leave out."""
    file = merged([from_file(preset("digits"), "digits"), from_assignments(assignments)])
    base = file.model_copy(update={"holdout": 6})
    return StudySpec(base, file, search_space(base, [], {"taps": ["conv1"]}), objectives("aubc"), (0,), out)


def shared_study(out: Path, *assignments: str, storage: str | None = None) -> SharedStudy:
    """Nothing is run."""
    plan = the_plan(out, *assignments)
    return SharedStudy(
        plan,
        storage_named(storage, plan, print),
        sampler=RandomSampler,
        pruner=pruner_named("none", budget=10, rounds=2),
    )


ONE_TAP = ("acquisition.name=pcc", "acquisition.taps=[conv1]")


@pytest.mark.parametrize("values", ['["x"]', "[]", "[NaN]", "[1e400]", "[5.5]", "[-0.1]", "[0.1, 0.2]", "[null]"])
def test_a_journal_whose_values_were_changed_is_refused(here, values):
    study = shared_study(here, *ONE_TAP)
    study.optuna.tell(study.next_trial(1, print), 0.5)
    (journal,) = here.glob("tune/*.journal")
    journal.write_text(journal.read_text().replace("[0.5]", values))
    with pytest.raises(ConfigError, match=r"trial 0 has the values .*from 0 to 1.*--storage"):
        shared_study(here, *ONE_TAP)


def test_a_journal_whose_direction_was_changed_is_refused(here):
    shared_study(here, *ONE_TAP)
    (journal,) = here.glob("tune/*.journal")
    journal.write_text(journal.read_text().replace('"directions":[2]', '"directions":[1]'))
    with pytest.raises(ConfigError, match=r"its directions are minimize, and not of aubc .maximize."):
        shared_study(here, *ONE_TAP)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE trial_values SET value = 'x'",
        "UPDATE trial_values SET value = NULL",
        "UPDATE trial_values SET value_type = 'ODD'",
        "UPDATE trial_values SET value_type = 'INF_POS'",
        "DELETE FROM trial_values",
        "UPDATE trial_params SET param_value = 99",
        "UPDATE trial_params SET distribution_json = 'x'",
        "UPDATE trial_user_attributes SET value_json = 'x'",
        "UPDATE trials SET state = 'ODD'",
        "UPDATE trials SET number = 5",
        "DELETE FROM trial_params",
        "DELETE FROM study_directions",
        "UPDATE study_directions SET direction = 'MINIMIZE'",
    ],
)
def test_a_study_in_a_database_that_was_changed_is_refused(here, change):
    address = "sqlite:///study.db"
    study = shared_study(here, *ONE_TAP, storage=address)
    study.optuna.tell(study.next_trial(1, print), 0.5)
    with closing(sqlite3.connect("study.db")) as database:
        database.execute(change)
        database.commit()
    with pytest.raises(ConfigError, match=r"^study digits-.*: .*--storage$"):
        shared_study(here, *ONE_TAP, storage=address)


def test_an_empty_set_of_taps_is_drawn_anew_and_does_not_count(here):
    study = shared_study(here, *ONE_TAP)
    while (trial := study.next_trial(12, print)) is not None:
        assert trial.params == {"taps/conv1": True}
        study.optuna.tell(trial, 0.5)
    empty = [each for each in study.trials() if not each.params["taps/conv1"]]
    assert empty and all(each.state.name == "PRUNED" and "no tap is left" in each.user_attrs[REASON] for each in empty)
    assert len(study.finished()) == 12 and len(study.trials()) == 12 + len(empty)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["final", "minority"])
def test_a_final_accuracy_is_maximised_on_held_out_images(here, objective):
    told = tuned("--trials", "2", "--method", "random", "--seeds", "0-1", "--objective", objective)
    name = {"final": "accuracy/holdout", "minority": "accuracy/holdout_rare"}[objective]
    client, tracked = runs("trial")
    for trial in (each for each in told["trials"] if each["state"] == "complete"):
        (run,) = (each for each in tracked if each.info.run_id == trial["run_id"])
        _, iterations = runs("round")
        last = [
            each.data.metrics[name]
            for each in iterations
            if each.data.tags["mlflow.parentRunId"] == run.info.run_id and each.data.params["b"] == "2"
        ]
        assert len(last) == 2 and trial["values"] == [pytest.approx(sum(last) / 2)]
        assert [m.step for m in client.get_metric_history(run.info.run_id, f"objective/{objective}")] == [10, 20]
    assert told["best"]["values"][0] == max(t["values"][0] for t in told["trials"] if t["state"] == "complete")


@pytest.mark.slow
def test_seeds_of_a_hopeless_trial_are_pruned_together(here):
    Path("params.yaml").write_text(
        fkal("config", "--preset", "digits", "--set", "pretrain.task=none", *LEARNING).stdout
        + yaml.safe_dump({"tune": {"space": {"train.lr": {"low": 0.0001, "high": 0.2, "log": True}}}})
    )
    options = ["--method", "random", "--trials", "10", "--sampler", "random", "--seeds", "0-1", "--holdout", "10"]
    told = json.loads(fkal("tune", *options, "--json").stdout)
    pruned = [trial for trial in told["trials"] if trial["state"] == "pruned"]
    assert pruned
    _, iterations = runs("round")
    for trial in pruned:
        own = [each.data.params for each in iterations if each.data.tags["mlflow.parentRunId"] == trial["run_id"]]
        done = [(each["seed"], each["b"]) for each in own]
        assert sorted(done) == [(seed, str(b)) for seed in "01" for b in range(1, trial["labels"] // 40 + 1)]


@pytest.mark.slow
def test_two_objectives_give_a_front_and_prune_nothing(here):
    options = ["--objective", "aubc,cost", "--method", "pfk_trace:k4", "--space", "k", "--trials", "4"]
    told = tuned(*options, "--storage", f"sqlite:///{here}/study.db")
    values = [trial["values"] for trial in told["trials"] if trial["state"] == "complete"]
    front = [trial["values"] for trial in told["front"]]
    assert front and all(
        not any(a >= area and c <= cost and (a, c) != (area, cost) for a, c in values) for area, cost in front
    )
    assert len({cost for _, cost in values}) > 1
    names = optuna.get_all_study_names(f"sqlite:///{here}/study.db")
    assert names == [told["study"]]
    client, (study,) = runs("study")
    assert "pareto_front.png" in {artifact.path for artifact in client.list_artifacts(study.info.run_id)}
    shown = fkal("tune", "--dataset", "digits", *TINY, *options, "--storage", f"sqlite:///{here}/study.db").stdout
    assert "Pareto front" in shown
    assert "are not pruned" in fkal("tune", "--dataset", "digits", *TINY, *options, "--pruner", "median", code=2).stderr


def test_a_study_whose_trials_all_fail_ends_with_their_reason(here):
    failing = [*TINY, "--method", "random", "--set", "train.lr=1.0e+30", "--trials", "2"]
    result = fkal("tune", "--dataset", "digits", *failing, code=1)
    assert "no trial is complete" in result.stderr and "loss is" in result.stderr
    assert not Path("params").exists()
    _, trials = runs("trial")
    assert [run.info.status for run in trials] == ["FAILED", "FAILED"]
    _, (study,) = runs("study")
    assert study.info.status == "FAILED"


def test_the_run_of_a_study_tells_whether_it_is_at_work(here, monkeypatch):
    seen = []

    def interrupted(plan, shared, trial, run, display):
        _, (study,) = runs("study")
        seen.append(study.info.status)
        if len(seen) == 2:
            shared.note(trial, worker={**this_worker(), "started": 0.0})  # as if another process had been it
            raise KeyboardInterrupt
        return run_trial(plan, shared, trial, run, display)

    monkeypatch.setattr("fkal.tuning.tune.run_trial", interrupted)
    command = ["tune", "--dataset", "digits", *TINY, "--method", "random"]
    fkal(*command, "--trials", "2", code=130)
    assert runs("study")[1][0].info.status == "KILLED"
    fkal(*command, "--trials", "1")
    assert runs("study")[1][0].info.status == "FINISHED"
    fkal(*command, "--trials", "2")
    assert runs("study")[1][0].info.status == "FINISHED" and seen == ["RUNNING"] * 3


def test_a_trial_that_an_import_was_interrupted_of_has_not_failed(here, monkeypatch):
    def interrupted(*_):
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("fkal.tuning.trial._worked", interrupted)
    fkal("tune", "--dataset", "digits", *TINY, "--method", "random", "--trials", "1", code=130)
    assert [run.info.status for run in runs("trial")[1]] == ["KILLED"]


@pytest.mark.slow
def test_the_files_of_a_study_are_drawn_by_a_matplotlib_that_is_whole(here):
    """Where it is imported first, by the program: an interrupt in the middle would make Python abort."""
    program = """
import sys

class Looking:
    def find_spec(self, name, *_):
        if name == "matplotlib":
            frame, names = sys._getframe(), []
            while frame := frame.f_back:
                names.append(frame.f_code.co_name)
            print("first by", "load_matplotlib" if "load_matplotlib" in names else names)

sys.meta_path.insert(0, Looking())
from fkal.cli.main import app
app(sys.argv[1:], standalone_mode=False)
"""
    command = ["tune", "--dataset", "digits", *TINY, "--method", "random", "--trials", "1"]
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("first by")] == ["first by load_matplotlib"]


def test_trials_share_one_pretraining_a_split(here, monkeypatch):
    made = []
    real = experiment.pretrain

    def counted(*arguments, **options):
        made.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(experiment, "pretrain", counted)
    pretrained = [*TINY[2:], "--set", "pretrain.task=rotation", "--set", "pretrain.epochs=1"]
    told = tuned("--trials", "3", "--seeds", "0-1", "--method", "random", settings=pretrained)
    assert len(told["trials"]) == 3
    assert len(made) == len(list(Path("runs/pretrained").glob("*.safetensors"))) == 2


def test_a_trial_that_fails_does_not_end_the_study(here):
    Path("params.yaml").write_text(
        fkal("config", "--preset", "digits", *TINY).stdout
        + yaml.safe_dump({"tune": {"space": {"train.lr": [0.05, 0.04, 0.03, 1e30], "train.batch_size": [10, 20]}}})
    )
    options = ["--method", "random", "--trials", "4", "--sampler", "random", "--json"]
    told = json.loads(fkal("tune", *options).stdout)
    states = [trial["state"] for trial in told["trials"]]
    assert "fail" in states and states.count("complete") == 4
    assert all(t["params"]["train.lr"] == 1e30 for t in told["trials"] if t["state"] == "fail")


def test_a_dry_run_shows_the_space_and_leaves_no_study(here):
    told = tuned("--trials", "5", "--dry-run")["plan"]
    assert told["planned"] == 5 and told["holdout"] == 6 and told["config"]["holdout"] == 6
    assert list(told["space"]) == ["train.batch_size", *(f"taps/{t}" for t in ("conv1", "conv2", "fc1"))]
    assert not Path("runs").exists() and not Path("study.db").exists()
    assert "train.batch_size" in fkal("tune", "--dataset", "digits", *TINY, "--dry-run").stdout


def test_a_dry_run_with_a_database_makes_none(here):
    assert tuned("--trials", "5", "--storage", "sqlite:///study.db", "--dry-run")["plan"]["finished"] == 0
    assert not Path("runs").exists() and not Path("study.db").exists()


def test_a_dry_run_downloads_nothing_and_says_what_is_unknown(here, monkeypatch):
    def downloaded(*_, **__):
        raise AssertionError("it downloads")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", downloaded)
    options = ["tune", "--dataset", "mnist", "--data-root", "nothing", "--method", "random", "--dry-run"]
    shown = fkal(*options)
    assert "study: unknown until the data are here" in shown.stdout
    assert "mnist is not whole under nothing" in shown.stderr
    told = json.loads(fkal(*options, "--json").stdout)["plan"]
    assert (told["study"], told["finished"], told["planned"]) == (None, 0, 30)
    assert not Path("runs").exists() and not Path("study.db").exists()


def test_a_dry_run_counts_the_trials_of_the_study_that_is_gone_on_with(here):
    done = tuned("--trials", "2", "--method", "random")
    told = tuned("--trials", "5", "--method", "random", "--dry-run")["plan"]
    assert (told["study"], told["finished"]) == (done["study"], 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--space", "epoch"], "did you mean 'epochs'"),
        (["--objective", "accuracy"], "known: aubc, final, aubc_balanced, balanced, minority, cost"),
        (["--sampler", "grid"], "known: tpe, random, gp"),
        (["--pruner", "no"], "known: median"),
        (["--trials", "0"], "give at least 1"),
        (["--holdout", "0"], "give at least 1 image a class"),
        (["--method", "random,pfk"], "--method random,pfk: names 2; a configuration has one"),
        (
            [
                "--objective",
                "minority",
                "--set",
                "bias.kind=by_hand",
                "--set",
                "bias.fractions={0: 1.0}",
                "--set",
                "bias.ratio=1",
            ],
            "no class is under-represented",
        ),
        (["--storage", "nosuch://x"], "the database cannot be used"),
        (["--preset", "svnh"], "did you mean 'svhn'"),
    ],
)
def test_wishes_that_cannot_be_met_are_answered_in_words(here, options, words):
    result = fkal("tune", *([] if "--preset" in options else ["--dataset", "digits"]), *TINY, *options, code=2)
    assert words in result.stderr and "Traceback" not in result.output


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"spaces": {}}, "give a section with a space"),
        ({"space": {"train.lr": [0.05]}, "trials": 3}, "tune.trials: unknown key"),
        ({"space": {"train.lrr": [0.05]}}, "did you mean 'train.lr'"),
    ],
)
def test_the_section_tune_is_checked_and_no_concern_of_a_run(here, section, words):
    Path("params.yaml").write_text(
        fkal("config", "--preset", "digits", *TINY).stdout + yaml.safe_dump({"tune": section})
    )
    assert words in fkal("tune", code=2).stderr
    fkal("run", "--dry-run")


def write_svhn(folder: Path) -> None:
    """train, extra and test in the published format: X (32 32 3 n), y (n 1), the digit 0 written as 10."""
    from scipy.io import savemat

    folder.mkdir(parents=True)
    for k, (part, n) in enumerate({"train": 80, "extra": 20, "test": 10}.items()):
        pixels = np.random.default_rng(k).integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        labels = (np.arange(n, dtype=np.uint8) % 10 + 1)[:, None]
        savemat(folder / f"{part}_32x32.mat", {"X": pixels, "y": labels}, do_compression=True)


@pytest.mark.slow
def test_svhn_is_tuned_from_files_of_its_format(here):
    write_svhn(here / "data" / "svhn")
    small = ["data.validation_per_class=2", "bias.ratio=1", "pretrain.task=none", "train.epochs=1", "threads=1"]
    settings = [*small, "acquisition.rounds=2", "acquisition.budget=8", "train.batch_size=4"]
    options = [part for text in settings for part in ("--set", text)]
    told = json.loads(fkal("tune", "--dataset", "svhn", *options, "--trials", "2", "--json").stdout)
    assert told["study"].startswith("svhn-ir1-pfk_joint") and told["holdout"] == 1
    assert Path(told["tuned"]).name == "svhn.yaml"
    assert set(told["best"]["params"]) == {"train.batch_size", "taps/layer3", "taps/layer4"}
    _, (study,) = runs("study", "svhn")
    assert study.info.status == "FINISHED"


def test_the_iterations_of_a_study_are_those_of_an_experiment_with_a_holdout(here):
    """A duplicate costs nothing: the default trial leaves what `fkal run` with the same settings takes up."""
    tuned("--trials", "1", "--method", "random")
    told = json.loads(
        fkal("run", "--preset", "digits", *TINY, "--method", "random", "--set", "holdout=6", "--json").stdout
    )
    (state,) = Path("runs/state").iterdir()
    assert told["experiments"][0]["fingerprint"] == state.name
    assert Checkpoint(Path("runs"), state.name).finished_count == 2


def test_a_new_study_names_those_of_its_kind_that_it_does_not_continue(here):
    folder, stem = Path("runs/tune"), "digits-ir20-random-random_theta_0"
    folder.mkdir(parents=True)
    for name in (f"{stem}-0a1b2c3d", "digits-ir20-pfk_joint-0a1b2c3d", f"{stem}-notes"):
        (folder / f"{name}.journal").touch()
    options = ["tune", "--dataset", "digits", *TINY, "--trials", "1", "--method", "random", "--space", "lr"]
    said = fkal(*options).stderr
    assert said.count(f"is a new study; not continued: {stem}-0a1b2c3d (other settings or images, or named by") == 1
    assert "not continued" not in fkal(*options).stderr


def test_studies_of_own_trees_that_earlier_versions_called_folder_are_of_their_kind(here):
    tree = ["data.name=folder", "data.folder=photos/bolts", "acquisition.name=pcc", "acquisition.taps=[conv1]"]
    plan = the_plan(here, *tree)
    assert plan.is_alike("bolts-ir20-pcc-conv1-0a1b2c3d") and plan.is_alike("folder-ir20-pcc-conv1-0a1b2c3d")
    assert not plan.is_alike("nuts-ir20-pcc-conv1-0a1b2c3d")


def test_studies_in_a_database_are_named_too(here):
    old = shared_study(Path("runs"), "train.lr=0.3", "acquisition.taps=[conv1]", storage="sqlite:///studies.db")
    new = the_plan(Path("runs"), "train.lr=0.2", "acquisition.taps=[conv1]")
    assert studies_beside(storage_named("sqlite:///studies.db", new, print), new) == [old.optuna.study_name]
    assert studies_beside(storage_named("sqlite:///studies.db", old._plan, print), old._plan) == []


def test_a_journal_is_not_written_through_a_link(here):
    shared_study(Path("runs"), "acquisition.taps=[conv1]")
    (journal,) = Path("runs/tune").glob("*.journal")
    journal.unlink()
    Path("precious").write_text("mine")
    journal.symlink_to(Path("precious").absolute())
    with pytest.raises(ValueError, match="remove the link"):
        shared_study(Path("runs"), "acquisition.taps=[conv1]")
    assert Path("precious").read_text() == "mine"


def test_the_folder_of_studies_is_no_link_that_leads_out(here):
    for name in ("precious", "runs"):
        Path(name).mkdir()
    Path("runs/tune").symlink_to(Path("precious").absolute())
    with pytest.raises(ValueError, match="leads out of runs"):
        shared_study(Path("runs"), "acquisition.taps=[conv1]")
    assert not list(Path("precious").iterdir())


@pytest.mark.parametrize("name", ["../precious", "/precious", ".."])
def test_to_apply_reaches_no_file_outside_the_folder_of_tuned_values(here, name):
    Path("params/tuned").mkdir(parents=True)
    text = "study:\n  applied: false\n"
    Path("params/precious.yaml").write_text(text)
    assert "name of a dataset" in fkal("tune", "--apply", "--dataset", name, code=2).stderr
    assert Path("params/precious.yaml").read_text() == text


def test_a_study_whose_best_trial_is_the_configured_one_says_so(here):
    command = ["tune", "--dataset", "digits", *TINY, "--trials"]
    said = fkal(*command, "1").stdout
    assert "the best trial is the configured one: nothing that was tried is better" in said
    told = json.loads(fkal(*command, "3", "--json").stdout)
    assert told["is_default"] == (told["best"]["trial"] == 0)
    assert ("the best trial is the configured one" in fkal(*command, "3").stdout) == told["is_default"]
