"""`fkal runs` on stores that hold hand-made experiments."""

import io
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.schema import digest_of
from fkal.results.checkpoint import Checkpoint
from fkal.tracking import unreadable_rows
from fkal.tracking.experiment_run import TrackedRun
from fkal.tracking.method_run import remake_method_run

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


def fkal(*arguments: str, code: int = 0, answer: str | None = None):
    result = CliRunner().invoke(app, ["runs", *arguments], input=answer)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def track(experiment, tiny_round, store, tmp_path):
    """Runs an experiment of this method and seed into the store; its run id."""

    def tracked(method: str, seed: int, rounds: int = 2, *, ends: bool = True, accuracy: float | None = None) -> str:
        one = replace(
            experiment,
            name=f"tiny-ir2-{method}-s{seed}",
            title=f"{method} s{seed} tiny ir2",
            method_title=f"{method} tiny ir2",
            cell=f"tiny-ir2-{method}",
            fingerprint=digest_of([method, seed]),
            seed=seed,
            tags={**experiment.tags, "method": method},
        )
        with Checkpoint(tmp_path / "runs", one.fingerprint) as state:
            run = TrackedRun.open(one, state, uri=store, say=print, monitor=False).__enter__()
            for b in range(1, rounds + 1):
                run.log(tiny_round(one, b, accuracy=accuracy))
            if ends:
                run.finish(model=False)
            return run.run_id

    return tracked


@pytest.fixture
def three(here, track) -> dict[str, str]:
    """Run ids by what they are."""
    return {"random": track("random", 0), "pfk": track("pfk_joint", 0), "begun": track("pfk_joint", 1, 0, ends=False)}


def listed(*arguments: str) -> list[str]:
    return [run["run_id"] for run in json.loads(fkal(*arguments, "--json").stdout)["runs"]]


def test_what_was_measured_on_held_out_images_stands_in_the_test_sets_stead(three, store):
    client = MlflowClient(store)
    run = client.get_run(three["begun"])
    for name, value in (("accuracy/holdout", 0.3), ("accuracy/holdout_macro", 0.2), ("accuracy/holdout_rare", 0.1)):
        client.log_metric(run.info.run_id, name, value, step=4)
    told = next(each for each in json.loads(fkal("--json").stdout)["runs"] if each["run_id"] == three["begun"])
    figures = [told[name] for name in ("accuracy", "balanced_accuracy", "rare_accuracy")]
    assert figures == pytest.approx([0.3, 0.2, 0.1]) and told["labels_used"] == 4


def test_the_newest_comes_first_with_its_figures(three, store):
    for name, value in (("accuracy/macro", 0.45), ("accuracy/rare", 0.4)):
        MlflowClient(store).log_metric(three["pfk"], name, value, step=12)
    told = json.loads(fkal("--json").stdout)
    assert [run["run_id"] for run in told["runs"]] == [three["begun"], three["pfk"], three["random"]]
    begun, pfk, _ = told["runs"]
    assert (pfk["name"], pfk["method"], pfk["bias"], pfk["seed"]) == ("tiny-ir2-pfk_joint-s0", "pfk_joint", "ir2", 0)
    assert (pfk["status"], pfk["labels_used"]) == ("FINISHED", 12)
    assert pfk["accuracy"] == pytest.approx(0.5)
    assert [pfk["balanced_accuracy"], pfk["rare_accuracy"]] == pytest.approx([0.45, 0.4])
    assert pfk["aubc"] == pytest.approx(0.4)
    assert (begun["status"], begun["labels_used"], begun["accuracy"], begun["aubc"]) == ("RUNNING", None, None, None)
    table = fkal().stdout
    assert [line.split()[0] for line in table.splitlines() if "tiny-ir2" in line] == [i[:8] for i in listed()]
    assert "labels used" in table
    assert re.search("50.0 +45.0 +40.0 +40.0", table)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--method", "random"], ["random"]),
        (["--method", "random,pfk_joint", "--seed", "0"], ["pfk", "random"]),
        (["--status", "Running"], ["begun"]),
        (["--dataset", "tiny", "--bias", "ir2", "--seed", "1-3"], ["begun"]),
    ],
)
def test_filters_leave_what_is_asked_for(three, options, kinds):
    assert listed(*options) == [three[kind] for kind in kinds]


@pytest.mark.slow
def test_runs_are_listed_without_torch(three, here):
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from fkal.cli.main import app\n"
        "print(CliRunner().invoke(app, ['runs', '--json']).exit_code, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=here)
    assert (told.stdout, told.stderr) == ("0 False\n", "")


def test_many_runs_come_page_by_page(three, monkeypatch):
    monkeypatch.setattr(unreadable_rows, "PAGE", 1)
    assert len(listed()) == 3
    assert "4 rounds of 2 experiments" in fkal("export", "all.csv").stderr


def test_a_superseded_run_is_listed_on_request_alone(here, track):
    old = track("random", 0)
    new = track("random", 0, accuracy=0.25)
    assert listed() == [new]
    assert set(listed("--all")) == {old, new}
    assert "superseded" in fkal("--all").stdout
    fkal("rm", "tiny-ir2-random-s0", "--yes")
    assert listed("--all") == [old]


def test_a_run_is_named_as_the_command_line_or_as_mlflow_calls_it(three):
    told = json.loads(fkal("--method", "random", "--json").stdout)["runs"][0]
    assert (told["name"], told["title"]) == ("tiny-ir2-random-s0", "random s0 tiny ir2")
    fkal("rm", "random s0 tiny ir2", "--yes")
    assert listed() == [three["begun"], three["pfk"]]
    assert "removed" in fkal("rm", "tiny-ir2-pfk_joint-s0", "--yes").stdout


def test_a_store_of_an_earlier_version_is_read(here, store, track):
    """Its runs have the command line's name, and accuracies by the names of a Round."""
    run_id, client = track("random", 0), MlflowClient(store)
    children = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run_id}'")
    client.update_run(run_id, name="tiny-ir2-random-s0")
    client.delete_tag(run_id, "fkal.name")
    with closing(sqlite3.connect(here / "mlflow.db")) as database:
        for table in ("metrics", "latest_metrics"):
            database.execute(f"UPDATE {table} SET key = 'test/accuracy' WHERE key = 'accuracy/test'")
        database.commit()
    (told,) = json.loads(fkal("--json").stdout)["runs"]
    assert (told["name"], told["labels_used"]) == ("tiny-ir2-random-s0", 12)
    assert told["accuracy"] == pytest.approx(0.5)
    fkal("export", "out.csv")
    assert "test/accuracy" in client.get_run(children[0].info.run_id).data.metrics
    assert pd.read_csv("out.csv")["accuracy/test"].tolist() == pytest.approx([0.3, 0.5])


def test_what_is_removed_has_no_part_in_its_methods_mean(here, store, track):
    first, second = (track("random", seed, accuracy=0.25 * (1 + seed)) for seed in (0, 1))
    client = MlflowClient(store)
    remake_method_run(client, first)
    fkal("rm", second, "--yes")
    (method,) = client.search_runs(["1"], "tags.`fkal.kind` = 'method'")
    assert method.data.metrics["accuracy/test"] == 0.25
    fkal("rm", first, "--yes")
    assert client.search_runs(["1"], "tags.`fkal.kind` = 'method'") == []


def test_to_read_makes_no_store(here):
    told = fkal("--tracking-uri", "sqlite:///none.db", code=4).stderr
    assert "none.db" in told and "fkal run" in told
    assert not Path("none.db").exists()


def test_an_empty_store_and_filters_that_leave_nothing_are_told_apart(here, store, track):
    assert "no experiment is tracked" in fkal(code=4).stderr
    track("random", 0, 0, ends=False)
    assert "1 tracked, none" in fkal("--method", "nix", code=2).stderr
    assert "did you mean 'failed'" in fkal("--status", "faild", code=2).stderr


def test_a_filter_before_the_command_is_refused(three):
    assert "options follow the command" in fkal("--method", "random", "rm", "--yes", code=2).stderr
    assert len(listed()) == 3


def test_removed_is_an_experiment_with_its_iterations_until_it_is_restored(three, store):
    told = fkal("rm", three["random"][:12], "--yes")
    assert three["random"] in told.stdout
    assert "mlflow gc" in told.stderr and f"mlflow runs restore --run-id {three['random']}" in told.stderr
    assert "would track them again" in told.stderr
    assert listed() == [three["begun"], three["pfk"]]
    client = MlflowClient(store)
    assert len(client.search_runs(["1"], run_view_type=ViewType.DELETED_ONLY)) == 3
    assert Checkpoint(Path("runs"), digest_of(["random", 0])).exists
    client.restore_run(three["random"])
    assert three["random"] in listed()


def test_nothing_is_removed_without_a_yes(three):
    told = fkal("rm", "tiny-ir2-random-s0", answer="n\n", code=1)
    assert "Remove these 1" in told.stderr
    assert len(listed()) == 3
    fkal("rm", "--seed", "0", answer="y\n")
    assert listed() == [three["begun"]]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "name the runs to remove, or filter them"),
        (["tiny-ir2-random-s0", "--method", "random"], "one of both"),
        (["nix"], "'nix' is no experiment's run id"),
        ([""], "is empty; give a name"),
    ],
)
def test_what_to_remove_must_be_plain(three, arguments, part):
    assert part in fkal("rm", *arguments, "--yes", code=2).stderr
    assert len(listed()) == 3


def test_state_is_removed_on_request_unless_a_process_holds_it(three):
    state = Checkpoint(Path("runs"), digest_of(["random", 0]))
    with state:
        assert "is held by process" in fkal("rm", "--method", "random", "--state", "--yes", code=1).stderr
    assert state.exists
    assert len(listed()) == 3
    fkal("rm", "--method", "random", "--state", "--yes")
    assert not state.exists
    assert Checkpoint(Path("runs"), digest_of(["pfk_joint", 0])).exists


def test_two_runs_of_one_experiment_are_removed_together(three):
    changed(
        "UPDATE tags SET value = (SELECT value FROM tags WHERE key = 'fkal.fingerprint' AND run_uuid = ?) "
        "WHERE key = 'fkal.fingerprint' AND run_uuid = ?",
        three["pfk"],
        three["random"],
    )
    assert fkal("rm", three["pfk"], three["random"], "-y").stdout.count("removed") == 2


@pytest.fixture
def precious(here) -> Path:
    folder = here / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    return folder


@pytest.mark.parametrize("tag", ["../../precious", "{precious}", "", ".", "..", None, "random0", 32 * "A"])
def test_no_folder_is_removed_that_a_tag_names(three, store, precious, tag):
    client, run_id = MlflowClient(store), three["random"]
    if tag is None:
        client.delete_tag(run_id, "fkal.fingerprint")
    else:
        client.set_tag(run_id, "fkal.fingerprint", str(precious) if tag == "{precious}" else tag)
    before = sorted(Path("runs").rglob("*"))
    told = fkal("rm", run_id, "--state", "--yes", code=2).stderr
    assert run_id in told and "32 hexadecimal digits" in told and "leave out --state" in told
    assert run_id in fkal("--json", code=3).stdout
    fkal("rm", run_id, "--yes")
    assert run_id not in listed()
    assert sorted(Path("runs").rglob("*")) == before
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]


def test_a_state_that_is_a_link_or_has_a_foreign_file_is_not_removed(three, precious):
    state = Checkpoint(Path("runs"), digest_of(["random", 0]))
    (state.path / "thesis.tex").write_text("mine")
    told = fkal("rm", "--method", "random", "--state", "--yes", code=2).stderr
    assert "did not write 'thesis.tex'" in told and (state.path / "thesis.tex").exists()
    state.path.rename(precious / "moved")
    state.path.symlink_to(precious)
    assert "remove the link" in fkal("rm", "--method", "random", "--state", "--yes", code=2).stderr
    assert (precious / "thesis.tex").read_text() == "mine"
    assert len(listed()) == 3


def test_an_export_has_a_row_an_iteration(three):
    fkal("export", "out.csv")
    fkal("export", "out.parquet")
    table = pd.read_parquet("out.parquet")
    assert table[["method", "b", "labels_used"]].values.tolist() == [
        ["pfk_joint", 1, 6], ["pfk_joint", 2, 12], ["random", 1, 6], ["random", 2, 12]
    ]  # fmt: skip
    assert table["run_id"].tolist() == [three["pfk"]] * 2 + [three["random"]] * 2
    assert table["accuracy/test"].tolist() == pytest.approx([0.3, 0.5] * 2)
    assert table["train.lr"].tolist() == [0.1] * 4
    assert table["acquisition.taps"].tolist() == ['["conv1","fc1"]'] * 4
    assert table["iteration_run_id"].nunique() == 4
    as_csv = pd.read_csv("out.csv", dtype={"train.nesterov": str})
    pd.testing.assert_frame_equal(as_csv, table, check_dtype=False)
    shown = pd.read_csv(io.StringIO(fkal("export", "-", "--method", "random").stdout))
    assert shown["name"].tolist() == ["tiny-ir2-random-s0"] * 2
    assert not list(Path().glob(".*"))


@pytest.mark.parametrize(
    ("file", "part"),
    [("out.xlsx", ".csv or .parquet"), ("none/out.csv", "there is no folder none"), ("folder.csv", "is a folder")],
)
def test_a_file_that_cannot_be_is_refused(three, file, part):
    Path("folder.csv").mkdir()
    assert part in fkal("export", file, code=2).stderr


def test_experiments_without_an_iteration_are_no_table(three):
    assert "nothing to export" in fkal("export", "out.csv", "--status", "running", code=2).stderr
    assert not Path("out.csv").exists()


def changed(change: str, *values: str) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database:
        assert database.execute(change, values).rowcount > 0
        database.commit()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("UPDATE latest_metrics SET value = 5 WHERE key = 'accuracy/test' AND run_uuid = ?", "accuracy/test is 5.0"),
        ("UPDATE latest_metrics SET value = -1 WHERE key = 'accuracy/test' AND run_uuid = ?", "accuracy/test is -1.0"),
        ("UPDATE latest_metrics SET is_nan = 1 WHERE key = 'summary/aubc' AND run_uuid = ?", "summary/aubc is nan"),
        ("UPDATE latest_metrics SET step = -5 WHERE run_uuid = ?", "the step -5, and no number of labels"),
        ("UPDATE runs SET start_time = 9000000000000000000 WHERE run_uuid = ?", "start_time is 9000000000000000000"),
    ],
)
def test_a_run_whose_figures_were_changed_is_named_and_hides_no_other(three, change, part):
    changed(change, three["pfk"])
    result = fkal("--json", code=3)
    assert [run["run_id"] for run in json.loads(result.stdout)["runs"]] == [three["begun"], three["random"]]
    assert f"run {three['pfk']}: its " in result.stderr and part in result.stderr


@pytest.mark.parametrize("labels", ["40.5", "-3", "1e300"])
def test_a_round_whose_labels_are_no_number_of_labels_is_not_exported(three, labels):
    changed("UPDATE latest_metrics SET value = ? WHERE key = 'labels_used' AND value = 12", labels)
    assert "and no whole number from 0; left out" in fkal("export", "out.csv", code=3).stderr
    assert pd.read_csv("out.csv")["labels_used"].tolist() == [6, 6]


def test_rounds_of_one_number_are_not_exported(three):
    changed("UPDATE params SET value = '1' WHERE key = 'b' AND value = '2'")
    assert "another one is round 1 as well; left out" in fkal("export", "out.csv", "--method", "random", code=2).stderr


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE runs SET start_time = 'x' WHERE run_uuid = ?",
        "UPDATE latest_metrics SET value = 'x' WHERE run_uuid = ?",
    ],
)
def test_a_text_in_the_place_of_a_number_is_named_and_hides_no_other_run(three, change):
    changed(change, three["pfk"])
    result = fkal("--json", code=3)
    assert [run["run_id"] for run in json.loads(result.stdout)["runs"]] == [three["begun"], three["random"]]
    assert f"run {three['pfk']}: it has a text where a number or a time belongs" in result.stderr


def test_a_status_that_mlflow_has_not_is_named_and_hides_no_other_run(three):
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("PRAGMA ignore_check_constraints = on")
        database.execute("UPDATE runs SET status = 'ODD' WHERE run_uuid = ?", [three["pfk"]])
        database.commit()
    result = fkal("--json", code=3)
    assert [run["run_id"] for run in json.loads(result.stdout)["runs"]] == [three["begun"], three["random"]]
    assert f"run {three['pfk']}: its status is 'ODD', and none of MLflow's; mend it there" in result.stderr


def test_a_row_that_mlflow_cannot_read_is_named_and_hides_no_other_run(three):
    changed("UPDATE runs SET start_time = NULL WHERE run_uuid = ?", three["pfk"])
    told = f"run {three['pfk']}: its row was changed by hand, and MLflow cannot read it; mend it there, or delete"
    result = fkal("--json", code=3)
    assert [run["run_id"] for run in json.loads(result.stdout)["runs"]] == [three["begun"], three["random"]]
    assert told in result.stderr
    assert told in fkal("export", "out.csv", "--method", "random", code=3).stderr
    assert set(pd.read_csv("out.csv")["run_id"]) == {three["random"]}
    assert told in fkal("rm", "--method", "random", "-y").stderr
    assert [run["run_id"] for run in json.loads(fkal("--json", code=3).stdout)["runs"]] == [three["begun"]]


def test_an_iteration_that_mlflow_cannot_read_is_left_out_of_an_export_and_removed_with_its_run(three):
    client = MlflowClient()
    (place,) = client.search_experiments(filter_string="name LIKE 'fkal/%'")
    rounds = f"tags.`mlflow.parentRunId` = '{three['pfk']}'"
    child = client.search_runs([place.experiment_id], rounds)[0].info.run_id
    changed("UPDATE runs SET start_time = NULL WHERE run_uuid = ?", child)
    assert f"run {child}: its row was changed by hand" in fkal("export", "out.csv", code=3).stderr
    frame = pd.read_csv("out.csv")
    assert child not in set(frame["iteration_run_id"]) and {three["pfk"], three["random"]} <= set(frame["run_id"])
    fkal("rm", three["pfk"], "-y")
    assert not client.search_runs([place.experiment_id], rounds)


def test_a_mean_that_cannot_be_updated_is_named_once_the_runs_are_removed(three, track):
    other = track("pfk_joint", 2)
    for run_id in (three["pfk"], other):
        remake_method_run(MlflowClient(), run_id)
    changed("UPDATE runs SET start_time = NULL WHERE run_uuid = ?", other)
    result = fkal("rm", three["pfk"], "-y", code=3)
    assert f"removed {three['pfk']}" in result.stdout
    assert "the mean beside tiny-ir2-pfk_joint-s0 is not updated: the MLflow store" in result.stderr


def test_a_store_of_which_no_row_can_be_read_is_told_in_words(three, monkeypatch):
    monkeypatch.setattr(unreadable_rows, "MOST_FAILURES", 40)
    changed("UPDATE runs SET start_time = NULL")
    for command in ((), ("export", "out.csv"), ("rm", "--method", "random", "-y")):
        said = fkal(*command, code=2).stderr
        assert said.startswith("error: the MLflow store sqlite:") and said.count("\n") == 1
        assert (
            "start_time cannot be None" in said
            and "a row of it was changed by hand; put a sound copy" in said
            and "Error" not in said
        )


def test_a_run_without_its_seed_is_named_and_takes_no_other_one(three):
    MlflowClient().delete_tag(three["pfk"], "fkal.seed")
    result = fkal("--json", code=3)
    assert [run["run_id"] for run in json.loads(result.stdout)["runs"]] == [three["begun"], three["random"]]
    assert f"run {three['pfk']}: it has no tag fkal.seed; mend it there" in result.stderr


def test_a_store_whose_table_of_experiments_was_emptied_has_no_runs_and_is_left_as_it_is(three):
    changed("DELETE FROM experiments")
    before = Path("mlflow.db").read_bytes()
    assert "no experiment is tracked in sqlite:" in fkal(code=4).stderr
    assert "no experiment is tracked in sqlite:" in fkal("export", "out.csv", code=4).stderr
    assert Path("mlflow.db").read_bytes() == before
