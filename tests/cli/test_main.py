"""The command line as a user holds it, on the digits; most of it in one process, for speed."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.results.checkpoint import Checkpoint
from fkal.version import __version__

QUICK = [
    "--preset", "digits",
    "--set", "pretrain.epochs=1",
    "--set", "train.epochs=4",
    "--set", "acquisition.rounds=3",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def answer(*arguments: str) -> dict:
    return json.loads(fkal(*arguments, "--json").stdout)


def runs(folder: Path, kind: str):
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fkal/digits")
    return client, client.search_runs([experiment.experiment_id], f"tags.`fkal.kind` = '{kind}'")


def results(told: dict) -> list:
    """What must be equal, whatever happened on the way."""
    return [(e["name"], e["fingerprint"], e["rounds"]) for e in told["experiments"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """What an uninterrupted run of `pfk` answers."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {"folder": folder, "told": answer("run", *QUICK, "--method", "pfk")}


def test_the_version_and_help_come_without_torch():
    program = (
        "import sys; from typer.testing import CliRunner; from fkal.cli.main import app;"
        "print(CliRunner().invoke(app, ['--version']).output, CliRunner().invoke(app, ['run', '--help']).output);"
        "print([m for m in ('torch', 'mlflow', 'pandas', 'yaml') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert f"fkal {__version__}" in told
    assert "Examples" in told
    assert told.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_messages_have_the_alias_of_a_method_and_json_its_name(here):
    command = ["--preset", "digits", "--set", "pretrain.task=none", "--method", "fisher_coverage"]
    short = ["--set", "train.epochs=1", "--set", "acquisition.rounds=1"]
    alias = "digits-ir20-fisher_coverage:random_theta_0-s0"
    first, again = fkal("run", *command, *short), fkal("run", *command, *short)
    assert f"{alias}: round 1 of 1, done" in first.stderr
    assert f"{alias}: finished before, nothing to do" in again.stderr
    assert fkal("descriptors", *command).stdout.startswith(f"{alias}: ")
    twice = fkal("run", *command, *short, "--method", "fisher_coverage,pfk_joint_shift_grid:coverage", "--dry-run")
    assert f"{alias}: named twice, run once" in twice.stderr
    assert "shift_grid" not in first.output + again.output
    assert answer("run", *command, *short)["experiments"][0]["name"].startswith("digits-ir20-pfk_joint_shift_grid")


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "runs",
        "cost",
        "tune",
        "split",
        "pretrain",
        "plan",
        "report",
        "show",
        "compare",
        "sync",
        "grid",
        "config",
        "list",
    ],
)
def test_every_command_has_help_with_an_example(command):
    assert "Example" in fkal(command, "--help").stdout


def test_what_is_merged_is_reported_from_where_it_was_merged_to():
    shown = " ".join(fkal("merge", "--help").stdout.split())
    guide = (Path(__file__).resolve().parents[2] / "docs/guides/gpus.md").read_text()
    assert "fkal sync --out runs && fkal report --out runs" in shown
    assert "fkal sync --out runs\n    fkal report --out runs\n" in guide


def test_config_prints_what_it_reads_again(here):
    Path("params.yaml").write_text(fkal("config", "--preset", "mnist", "--set", "train.lr=0.2").stdout)
    again = answer("config")
    assert again["config"]["train"]["lr"] == 0.2
    assert f"# digest: {again['digest']}" in Path("params.yaml").read_text()


def test_a_file_of_one_experiment_is_taken_for_its_dataset(here):
    Path("params.yaml").write_text(fkal("config", "--preset", "digits", "--set", "train.lr=0.0123").stdout)
    assert answer("config", "--dataset", "digits")["config"]["train"]["lr"] == 0.0123


def test_a_preset_in_the_place_of_a_file_of_another_dataset_is_said_once(here):
    Path("params.yaml").write_text(fkal("config", "--preset", "mnist").stdout)
    result = fkal("config", "--dataset", "digits", "--json")
    assert json.loads(result.stdout)["config"]["data"]["name"] == "digits"
    said = "params.yaml: has the settings of 'mnist' alone, so the preset digits is used instead; leave --dataset out"
    assert result.stderr.count(said) == 1


def test_a_grid_without_the_dataset_stands_beside_its_preset_in_silence(here):
    Path("params.yaml").write_text(fkal("grid", "--dataset", "digits").stdout)
    assert fkal("config", "--dataset", "mnist").stderr == ""


def test_several_datasets_of_a_grid_can_be_named(here):
    Path("params.yaml").write_text(fkal("grid", "--dataset", "digits,mnist,svhn", "--method", "random").stdout)
    told = answer("run", "--dataset", "digits, mnist", "--seeds", "0", "--dry-run")["plan"]
    assert [each["name"].split("-")[0] for each in told] == ["digits", "mnist"]
    refused = fkal("run", "--dataset", "digits,gtsrb", "--dry-run", code=2).stderr
    assert "params.yaml: datasets has no 'gtsrb'" in refused


@pytest.mark.parametrize("what", ["datasets", "models", "acquisitions", "pseudo-labels", "matchings", "presets"])
def test_lists_have_names_and_explanations(what):
    rows = answer("list", what)[what]
    assert all(row["name"] and row["what"] for row in rows)
    assert rows[0]["name"] in fkal("list", what).stdout


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
@pytest.mark.parametrize("what", ["datasets", "models", "acquisitions", "pseudo-labels", "matchings", "presets"])
def test_lists_are_whole_in_any_terminal(what, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    shown = fkal("list", what).stdout
    words = {word for row in answer("list", what)[what] for value in row.values() for word in value.split()}
    assert [word for word in words if len(word) < 30 and word not in shown] == []
    assert "…" not in shown


def test_splits_are_files_with_their_counts(here):
    (told,) = answer("split", "--preset", "digits", "--seeds", "3")["splits"]
    counts = told["class_counts"]["pool"]
    assert sum(counts[5:]) == sum(counts[:5]) // 20
    before = Path(told["path"]).read_bytes()
    assert told["digest"] in fkal("split", "--preset", "digits", "--seeds", "3").stdout
    assert Path(told["path"]).read_bytes() == before


def test_a_split_is_told_once_for_all_methods(here):
    Path("params.yaml").write_text(fkal("grid", "--dataset", "digits", "--method", "random,pfk_joint").stdout)
    assert [told["seed"] for told in answer("split", "--seeds", "0-1")["splits"]] == [0, 1]


def test_a_corrupt_split_is_named_and_drawn_again(here):
    (told,) = answer("split", "--preset", "digits")["splits"]
    path = Path(told["path"])
    before = path.read_bytes()
    path.write_bytes(before[:100])
    result = fkal("split", "--preset", "digits", "--json")
    assert str(path) in result.stderr
    assert path.read_bytes() == before


def test_a_split_of_another_recipe_under_this_name_is_replaced(here):
    zero, one = (Path(s["path"]) for s in answer("split", "--preset", "digits", "--seeds", "0-1")["splits"])
    before = zero.read_bytes()
    zero.write_bytes(one.read_bytes())
    assert str(zero) in fkal("split", "--preset", "digits").stderr
    assert zero.read_bytes() == before


def test_pretraining_is_made_once_and_a_truncated_file_again(here):
    (made,) = answer("pretrain", *QUICK)["pretrained"]
    (found,) = answer("pretrain", *QUICK)["pretrained"]
    assert (made["was_there"], found["was_there"]) == (False, True)
    (path,) = map(Path, made["paths"])
    before = path.read_bytes()
    flipped = bytearray(before)
    flipped[-9] ^= 1
    for damaged in (before[:50], bytes(flipped), b""):
        path.write_bytes(damaged)
        assert str(path) in fkal("pretrain", *QUICK).stderr
        assert path.read_bytes() == before


@pytest.mark.slow
def test_a_run_tracks_a_parent_and_a_child_an_iteration(whole):
    (told,) = whole["told"]["experiments"]
    client, (parent,) = runs(whole["folder"], "experiment")
    assert parent.info.run_id == told["run_id"]
    assert parent.info.status == "FINISHED"
    curve = client.get_metric_history(parent.info.run_id, "accuracy/test")
    assert [point.step for point in curve] == [20, 40, 60]
    assert [point.value for point in curve] == [r["test/accuracy"] for r in told["rounds"]]
    _, children = runs(whole["folder"], "round")
    assert sorted(child.info.run_name for child in children) == [f"pfk_joint s0 round {b}" for b in (1, 2, 3)]
    for child in children:
        assert child.data.params == {**parent.data.params, "b": child.data.params["b"]}
        path = client.download_artifacts(child.info.run_id, "selected.parquet", str(whole["folder"]))
        b = int(child.data.params["b"])
        assert pd.read_parquet(path)["index"].tolist() == told["rounds"][b - 1]["selected"]


@pytest.mark.slow
def test_a_method_has_a_run_above_those_of_its_seeds(whole, here):
    told = answer("run", *QUICK, "--method", "random,pfk", "--seeds", "0-1")["experiments"]
    client, methods = runs(here, "method")
    assert sorted(run.info.run_name for run in methods) == ["pfk_joint digits ir20", "random digits ir20"]
    for method in methods:
        own = [each for each in told if each["name"].rpartition("-s")[0] == method.data.tags["fkal.name"]]
        below = {client.get_run(each["run_id"]).data.tags["mlflow.parentRunId"] for each in own}
        assert below == {method.info.run_id}
        curve = {m.step: m.value for m in client.get_metric_history(method.info.run_id, "accuracy/test")}
        for i, labels in enumerate((20, 40, 60)):
            assert curve[labels] == pytest.approx(sum(each["rounds"][i]["test/accuracy"] for each in own) / 2)
        assert f"--method {method.data.params['method']} " in method.data.tags["mlflow.note.content"]


def test_params_are_those_that_the_method_reads(here):
    answer("run", *QUICK, "--method", "random")
    _, (seed,) = runs(here, "experiment")
    _, (method,) = runs(here, "method")
    assert "acquisition.budget" in seed.data.params and "seed" in seed.data.params
    assert not {"acquisition.taps", "acquisition.pseudo_label", "vaal.latent"} & set(seed.data.params)
    assert "seed" not in method.data.params and set(method.data.params) - {"seeds"} <= set(seed.data.params)


def test_the_tracked_params_file_runs_the_same_experiment_again(whole, here):
    (told,) = whole["told"]["experiments"]
    client, (parent,) = runs(whole["folder"], "experiment")
    path = client.download_artifacts(parent.info.run_id, "params.yaml", str(here))
    (plan,) = answer("run", "--params", path, "--dry-run")["plan"]
    assert plan["fingerprint"] == told["fingerprint"]


def test_no_image_is_labeled_twice_and_all_are_of_the_pool(whole):
    (told,) = whole["told"]["experiments"]
    picked = [index for r in told["rounds"] for index in r["selected"]]
    (path,) = (whole["folder"] / "runs" / "splits").glob("*.json")
    assert len(set(picked)) == 60
    assert set(picked) <= set(json.loads(path.read_text())["pool"])


def test_asked_again_it_says_so_and_does_nothing(whole, monkeypatch):
    monkeypatch.chdir(whole["folder"])
    result = fkal("run", *QUICK, "--method", "pfk", "--json")
    assert "nothing to do" in result.stderr
    assert results(json.loads(result.stdout)) == results(whole["told"])
    assert len(runs(whole["folder"], "round")[1]) == 3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole, here):
    told = answer("run", *QUICK, "--method", "pfk,random", "--seeds", "0-1")
    first, other, *_ = results(told)
    assert [first] == results(whole["told"])
    assert first[2] != other[2]
    table = fkal("run", *QUICK, "--method", "pfk,random", "--seeds", "0-1").stdout
    assert "pfk_joint" in table
    assert "random" in table
    assert "±" in table
    assert "compare the methods in MLflow: fkal ui" in table.splitlines()
    (figure,) = told["figures"]
    numbers = pd.read_csv(Path(figure).with_suffix(".csv"))
    assert numbers.groupby(["method", "seed"]).size().tolist() == [3] * 4
    assert Path(figure).exists()


class Killed(BaseException):
    """What no one catches, as a kill is."""


@pytest.mark.slow
@pytest.mark.parametrize("b", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before the state is written", "before it is tracked", "in the middle of tracking"])
def test_a_killed_run_goes_on_to_the_same_end(b, moment, whole, here, monkeypatch):
    from fkal.tracking import experiment_run as tracking

    def killed_at(original, is_now):
        def method(self, *arguments, **keywords):
            if is_now(arguments):
                raise Killed
            return original(self, *arguments, **keywords)

        return method

    at_b = lambda arguments: arguments[0].b == b  # noqa: E731
    with monkeypatch.context() as patch:
        match moment:
            case "before the state is written":
                patch.setattr(Checkpoint, "add", killed_at(Checkpoint.add, at_b))
            case "before it is tracked":
                patch.setattr(tracking.TrackedRun, "log", killed_at(tracking.TrackedRun.log, at_b))
            case _:
                ends = MlflowClient.set_terminated
                patch.setattr(MlflowClient, "set_terminated", killed_at(ends, lambda _: True))
        with pytest.raises(Killed):
            CliRunner().invoke(app, ["run", *QUICK, "--method", "pfk"], catch_exceptions=False)
    told = answer("run", *QUICK, "--method", "pfk")
    assert results(told) == results(whole["told"])
    client, parents = runs(here, "experiment")
    _, children = runs(here, "round")
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert len(children) == 3
    assert len(client.get_metric_history(parents[0].info.run_id, "accuracy/test")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_process_that_is_killed_for_good_is_gone_on_from(after, whole, here):
    command = [sys.executable, "-m", "fkal.cli.main", "run", *QUICK, "--method", "pfk"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = f"state/*/round-0{after}.json" if after else "pretrained/*.lock"
    while not list((here / "runs").glob(mark)) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = answer("run", *QUICK, "--method", "pfk")
    assert results(told) == results(whole["told"])
    assert len(runs(here, "experiment")[1]) == 1
    assert len(runs(here, "round")[1]) == 3


def test_a_run_that_an_import_was_interrupted_of_is_interrupted_and_no_other_begins(here, monkeypatch):
    tried = []

    def interrupted(experiment, *_, **__):
        tried.append(experiment.seed)
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("fkal.runner.run.run_one", interrupted)
    assert "interrupted" in fkal("run", *QUICK, "--method", "random", "--seeds", "0-1", code=130).stderr
    assert tried == [0]


def test_an_interrupted_run_ends_with_130_and_no_traceback(here, monkeypatch):
    from fkal.tracking.experiment_run import TrackedRun

    def interrupted(self, finished):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrackedRun, "log", interrupted)
    result = fkal("run", *QUICK, "--method", "random", code=130)
    assert "goes on" in result.stderr


def test_one_failed_run_of_several_ends_with_3_after_the_others(here):
    told = CliRunner().invoke(
        app, ["run", *QUICK, "--method", "random", "--seeds", "0-1", "--set", "train.lr=1e20", "--json"]
    )
    assert told.exit_code == 3
    assert "train.lr" in told.stderr
    assert fkal("run", *QUICK, "--method", "random", "--set", "train.lr=1e20", code=1).stderr.count("\n") == 1


def test_the_authors_rule_says_so_everywhere(here):
    told = answer("run", *QUICK, "--method", "random", "--set", "protocol=paper")
    (experiment,) = told["experiments"]
    assert "paper" in experiment["name"]
    assert "paper" in told["figures"][0]
    _, (parent,) = runs(here, "experiment")
    assert parent.data.tags["fkal.protocol"] == "paper"
    assert parent.data.params["epoch"] == "best_on_test"
    table = fkal("run", *QUICK, "--method", "random", "--set", "protocol=paper").stdout
    assert "ON THE TEST SET" in table


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--set", "acquisition.budget=1000"], 2, ["acquisition.budget = 1000", "at most"]),
        (["--set", "acquisition.budget=200"], 2, ["acquisition.rounds = 3", "at most"]),
        (["--set", "acquisition.taps=[conv3]"], 2, ["acquisition.taps", "conv3", "did you mean 'conv2'"]),
        (["--set", "bias.ratio=0.1"], 2, ["bias.ratio", "0.1", "1 or more"]),
        (["--set", "model.name=lenett"], 2, ["model.name", "did you mean 'lenet'"]),
        (["--set", "data.name=digitz"], 2, ["digitz", "did you mean 'digits'"]),
        (["--set", "data.validation_per_class=900"], 2, ["validation_per_class", "900", "or less"]),
        (["--set", "device=cuda:63"], 2, ["device = 'cuda:63'"]),
        (["--set", "device=cud"], 2, ["device = 'cud'", "give auto, cpu, cuda"]),
        (["--set", "features.precision=tf32"], 2, ["features.precision", "tf32", "cpu has no TF32; give float32"]),
        (["--set", "data.decoding=gpu"], 2, ["data.decoding = 'gpu'", "cpu decodes no JPEG files", "decoding=draft"]),
        (["--set", "train.precision=half"], 2, ["train.precision", "half", "bfloat16"]),
        (["--set", "bias.cut=[77]"], 2, ["cut", "77"]),
        (["--method", "randon"], 2, ["randon", "did you mean 'random'"]),
        (["--seeds", "4-1"], 2, ["--seeds '4-1'", "1-4"]),
        (["--params", "x.yaml"], 2, ["--preset and --params"]),
        (["--tracking-uri", "http://127.0.0.1:9"], 2, ["127.0.0.1:9"]),
        (["--out", "/dev/null/x"], 2, ["--out /dev/null/x", "another folder"]),
        (["--method", "random:sum"], 2, ["random:sum", "no two kernels", "leave ':sum' out"]),
        (["--method", "pfk_joint:sum:ecov"], 2, ["pfk:ecov has no two kernels to combine", "leave ':sum' out"]),
        (["--method", "pfk_joint:noisyor"], 2, ["did you mean 'noisy_or'?"]),
        (["--method", "pcc:e4"], 2, ["pcc:e4", "one model alone", "leave ':e4' out"]),
        (["--method", "pfk_joint:k32"], 2, ["pfk_joint:k32", "no Monte Carlo samples", "leave ':k32' out"]),
        (["--method", "varr:4"], 2, ["varr:4", "unknown", "e4, k32"]),
        (["--method", "random@conv2"], 2, ["random@conv2", "no layer"]),
        (["--seeds", "0-5000000"], 2, ["--seeds", "fewer"]),
        (["--seeds", "²"], 2, ["--seeds", "0-4"]),
        (
            [
                "--set",
                "model.name=resnet10",
                "--set",
                "data.image_size=32",
                "--set",
                "acquisition.taps=[layer3]",
                "--set",
                "acquisition.budget=1",
            ],
            2,
            ["acquisition.budget = 1", "at least 2"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(arguments, code, parts, here):
    result = fkal("run", *QUICK, *arguments, code=code)
    for part in parts:
        assert part in result.stderr
    assert "Traceback" not in result.output
    assert not list(here.glob("runs/state/*/round-*"))
    assert not list(here.glob("runs/pretrained/*.safetensors"))


def test_a_params_path_that_is_a_folder_is_refused(here):
    assert "cannot be read" in fkal("run", "--params", str(here), code=2).stderr


@pytest.mark.slow
def test_oblong_images_of_an_own_tree_run(here):
    for part in ("train", "test"):
        for label, shade in (("dark", 30), ("light", 220)):
            folder = here / "data" / "mine" / part / label
            folder.mkdir(parents=True)
            for i in range(12):
                Image.new("L", (12, 8), shade + i).save(folder / f"{i}.png")
    data = ("data.name=folder", "data.folder=mine", "data.validation_per_class=3", "bias.ratio=2")
    settings = [*QUICK, *(word for item in (*data, "acquisition.budget=2") for word in ("--set", item))]
    told = answer("run", *settings, "--method", "random,pfk")
    assert [len(e["rounds"]) for e in told["experiments"]] == [3, 3]


@pytest.mark.slow
def test_two_names_of_one_experiment_are_run_once(here):
    result = fkal("run", *QUICK, "--method", "pfk,pfk_joint", "--json")
    assert "named twice" in result.stderr
    assert len(json.loads(result.stdout)["experiments"]) == 1


@pytest.mark.slow
def test_another_call_keeps_the_figure_of_this_one(here):
    (first,) = answer("run", *QUICK, "--method", "random")["figures"]
    (second,) = answer("run", *QUICK, "--method", "random,pfk")["figures"]
    assert first != second
    assert Path(first).exists()


def test_a_dry_run_needs_no_lock(here):
    (plan,) = answer("run", *QUICK, "--method", "random", "--dry-run")["plan"]
    with Checkpoint(here / "runs", plan["fingerprint"]):
        assert answer("run", *QUICK, "--method", "random", "--dry-run")["plan"] == [plan]
        assert "is held by process" in fkal("run", *QUICK, "--method", "random", "--no-wait", code=1).stderr


def test_there_is_nothing_to_pretrain_without_a_task(here):
    assert "nothing to pretrain" in fkal("pretrain", *QUICK, "--set", "pretrain.task=none", code=2).stderr


def test_a_configuration_has_one_method(here):
    result = fkal("config", "--preset", "digits", "--method", "random,pfk", code=2)
    assert "--method random,pfk: names 2" in result.stderr


@pytest.mark.slow
def test_the_command_for_the_ui_can_be_pasted(here, monkeypatch):
    folder = here / "a b#c"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert answer("run", *QUICK, "--method", "random")["ui"] == "fkal ui"
    command = answer("run", *QUICK, "--method", "random", "--tracking-uri", "sqlite:///other.db")["ui"]
    assert shlex.split(command) == ["fkal", "ui", "--tracking-uri", f"sqlite:///{folder / 'other.db'}"]


def test_a_missing_params_file_ends_with_4_and_says_what_to_do(here):
    assert "--preset digits" in fkal("run", code=4).stderr


def test_missing_data_ends_with_4_and_names_the_files(here):
    result = fkal("run", "--preset", "imagenet", code=4)
    assert "imagenet/train" in result.stderr


def test_a_misspelt_variable_is_a_warning(here, monkeypatch):
    monkeypatch.setenv("FKAL_TRIAN__LR", "1")
    assert "FKAL_TRIAN__LR" in fkal("config", "--preset", "digits").stderr


def test_a_dry_run_plans_and_does_nothing(here):
    told = answer("run", *QUICK, "--method", "random,pfk", "--dry-run")
    assert [plan["iterations"] for plan in told["plan"]] == [3, 3]
    shown = fkal("run", *QUICK, "--method", "random,pfk", "--dry-run").stdout
    assert "budget: 20" in shown
    fkal("cost", *QUICK, "--method", "random,pfk")
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_a_dry_run_tells_what_an_earlier_run_found(here, monkeypatch):
    settings = ("pretrain.task=none", "train.epochs=1", "acquisition.rounds=1")
    short = [word for each in settings for word in ("--set", each)]
    command = ("run", "--preset", "digits", *short, "--method", "random,pfk,pfk_joint")
    fresh = answer(*command, "--dry-run")["plan"]
    fkal(*command)
    found = fkal(*command, "--dry-run", "--json", "--verify")
    monkeypatch.setattr("fkal.runner.run.plan_runs", lambda *_, **__: pytest.fail("the images were read again"))
    remembered = fkal(*command, "--dry-run", "--json")
    assert (remembered.stdout, remembered.stderr) == (found.stdout, found.stderr)
    assert "pfk_joint" in remembered.stderr and "named twice, run once" in remembered.stderr
    assert json.loads(remembered.stdout)["plan"] == [{**plan, "finished": 1} for plan in fresh]
    assert "--jobs 0: give 1 to 1024" in fkal(*command, "--dry-run", "--jobs", "0", code=2).stderr


def test_a_dry_run_without_the_images_downloads_nothing_and_says_what_is_unknown(here, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was opened"))
    mnist = ("--preset", "mnist", "--set", "data.root=absent", "--method", "random,pfk")
    (one, other) = answer("run", *mnist, "--dry-run")["plan"]
    assert (one["fingerprint"], one["iterations"], other["labels"]) == (None, 10, 1250)
    told = fkal("run", *mnist, "--dry-run")
    assert told.stdout.count("unknown until the data are here") == 2
    assert "dataset mnist is not whole under absent" in told.stderr
    assert "(downloads are off)" in fkal("cost", *mnist, code=4).stderr
    frozen = ("--preset", "digits", "--backbone", "torchvision:resnet18", "--set", "train.layers=frozen")
    assert "the weights of torchvision:resnet18 are not here" in fkal("run", *frozen, "--dry-run").stderr
    program = ("--preset", "digits", "--set", "model.name=gone.pt2", "--set", "train.layers=frozen")
    assert "'gone.pt2': there is no such file" in fkal("run", *program, "--dry-run", code=4).stderr
    assert list(here.iterdir()) == []


def test_a_run_without_the_images_tries_to_download_them(here, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refused)
    mnist = ("--preset", "mnist", "--set", "data.root=absent", "--method", "random")
    assert "the download failed" in fkal("run", *mnist, code=4).stderr


def test_list_names_its_choices_where_none_or_a_wrong_one_is_given():
    choices = "choose one of datasets, models, acquisitions, pseudo-labels, matchings, presets"
    assert choices in fkal("list", code=2).stderr
    told = fkal("list", "dataset", code=2).stderr
    assert choices in told and "did you mean 'datasets'" in told
    shown = " ".join(fkal("list", "--help").stdout.split())
    assert "datasets, models, acquisitions, pseudo-labels, matchings or presets" in shown


def test_help_of_the_package_says_where_to_start():
    import fkal as package

    for word in ("fkal run --preset digits", "fkal report --out runs", "experiment.prepare", "registry.ACQUISITIONS"):
        assert word in package.__doc__


def test_the_shell_can_complete_commands():
    assert "--install-completion" in fkal("--help").stdout
