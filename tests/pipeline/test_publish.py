"""What stages publish, and how it is taken over elsewhere: in one process, on a few small images."""

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.experiment.versions import LABEL_REVISIONS
from fkal.pipeline import plan as planning
from fkal.pipeline import stages
from fkal.pipeline.published import read_published
from fkal.pipeline.restore import restore
from fkal.results.checkpoint import Checkpoint
from fkal.results.manifest import read_about
from fkal.results.round_facts import facts_bytes

SETTINGS = {
    "data": {"name": "folder", "folder": "mine", "validation_per_class": 4},
    "bias": {"ratio": 2},
    "pretrain": {"task": "none"},
    "train": {"epochs": 1, "decay_epochs": []},
    "acquisition": {"rounds": 3, "budget": 2},
    "threads": 1,
}
EXPERIMENTS, TIMINGS = "data/experiments/mine-2-random/s0", "data/timings/mine-2-random.json"


def write_params(folder: Path, methods: tuple[str, ...] = ("random",), **changes: object) -> None:
    grid = {"dataset": ["mine"], "ratio": [2], "method": list(methods), "seeds": "0"}
    content = {"grid": grid, "methods": {}, "datasets": {"mine": {**SETTINGS, **changes}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


def draw_images(root: Path, darkest: int = 30) -> Path:
    for part in ("train", "test"):
        for label, shade in (("dark", darkest), ("light", 220)):
            folder = root / "mine" / part / label
            folder.mkdir(parents=True)
            for i in range(16):
                Image.new("L", (8, 8), shade + i).save(folder / f"{i:02}.png")
    return root


def published_in(project: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Path:
    """A project whose one cell has run on images that lie elsewhere."""
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.setenv("FKAL_DATA_ROOT", str(draw_images(project / "images")))
    write_params(project, **changes)
    planning.plan(None, Path("data"), Path("runs"))
    stages.experiment(Path("data/plan/mine-2/methods/random.yaml"), Path("runs"), None, 1)
    return project


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return published_in(tmp_path_factory.mktemp("published") / "a", patch)


@pytest.fixture
def pulled(original, tmp_path, monkeypatch) -> Path:
    """Another machine: what was published is there, images lie in another place, the scratch folder is empty."""
    project = tmp_path / "b"
    shutil.copytree(original / "data", project / "data")
    monkeypatch.setenv("FKAL_DATA_ROOT", str(draw_images(tmp_path / "elsewhere")))
    monkeypatch.chdir(project)
    return project


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def the_state(project: Path) -> Checkpoint:
    about = json.loads((project / EXPERIMENTS / "about.json").read_text())
    return Checkpoint(project / "runs", about["fingerprint"])


def the_runs(kind: str, store: str = "mlflow.db"):
    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd()}/{store}")
    (experiment,) = [each for each in client.search_experiments() if each.name.startswith("fkal/")]
    return list(client.search_runs([experiment.experiment_id], f"tags.`fkal.kind` = '{kind}'"))


def the_run():
    (run,) = the_runs("experiment")
    return run


@pytest.mark.slow
def test_what_is_published_does_not_tell_where_the_images_lie(original, tmp_path, monkeypatch):
    other = published_in(tmp_path / "another", monkeypatch)
    about = EXPERIMENTS + "/about.json"
    assert (other / about).read_bytes() == (original / about).read_bytes()
    assert str(original) not in (original / about).read_text()


def test_the_names_of_classes_are_published_and_taken_over(pulled, said):
    assert read_published(Path(EXPERIMENTS)).classes == ("dark", "light")
    restore(Path("data"), Path("runs"), said.append)
    assert read_about(the_state(pulled).path).classes == ("dark", "light")


def test_what_was_published_without_names_of_classes_is_read(pulled):
    path = Path(EXPERIMENTS, "about.json")
    about = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in about.items() if name != "classes"}))
    assert read_published(path.parent).classes == ()


def test_sync_finds_the_images_of_this_machine(pulled, tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA_ROOT", str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in fkal("sync", code=4).stderr
    assert "1 of 1 experiments" in fkal("sync", "--data-root", str(tmp_path / "elsewhere")).stdout


def test_sync_refuses_other_images_of_that_name(pulled, tmp_path, monkeypatch):
    """Their contact sheets would show what nobody picked."""
    others = str(draw_images(tmp_path / "others", darkest=90))
    result = fkal("sync", "--data-root", others, code=3)
    assert "0 of 1 experiments" in result.stdout
    assert "its split has the digest" in result.stderr and "--data-root" in result.stderr


def test_a_damaged_iteration_is_left_out_and_the_others_are_taken(pulled, said):
    """Of another seed, say: nothing that stands in a published file ends a stage."""
    whole = Path(EXPERIMENTS)
    damaged = shutil.copytree(whole, whole.with_name("s1"))
    about = json.loads((damaged / "about.json").read_text())
    (damaged / "about.json").write_text(json.dumps({**about, "fingerprint": 32 * "0"}))
    (damaged / "round-01.json").write_bytes((damaged / "round-01.json").read_bytes()[:40])
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1 and "its JSON file is corrupt" in said[0] and str(damaged) in said[0]
    assert the_state(pulled).finished_count == 3
    result = fkal("sync", code=3)
    assert "1 of 2 experiments" in result.stdout and "dvc checkout" in result.stderr


@pytest.mark.parametrize("content", ["[]", "{", '{"s0": []}', '{"s0": {"round-01": 3}}'])
def test_timings_that_are_none_cost_the_seconds_alone(pulled, said, content):
    Path(TIMINGS).write_text(content)
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1 and "the seconds of its rounds are left out" in said[0]
    assert the_state(pulled).finished_count == 3


def test_what_was_pulled_and_is_run_again_is_not_of_this_machine(pulled):
    timings = json.loads(Path(TIMINGS).read_text())
    timings["s0"]["made_with"].update({"git commit": "f00", "device": "cuda (Big)", "algorithm": "0"})
    Path(TIMINGS).write_text(json.dumps(timings))
    write_params(pulled)
    planning.plan(None, Path("data"), Path("runs"))
    stages.experiment(Path("data/plan/mine-2/methods/random.yaml"), Path("runs"), None, 1)
    told = {name: the_run().data.tags.get(f"fkal.{name}") for name in ("git_commit", "device", "algorithm")}
    assert told == {"git_commit": "f00", "device": "cuda (Big)", "algorithm": "0"}


@pytest.mark.slow
def test_a_synced_run_names_who_made_it_and_measures_no_machine(pulled):
    timings = json.loads(Path(TIMINGS).read_text())
    timings["s0"]["made_with"].update({"git commit": "f00", "device": "cuda (Big)", "fkal": "0.0.1"})
    Path(TIMINGS).write_text(json.dumps(timings))
    fkal("sync")
    run = the_run()
    assert run.info.status == "FINISHED"
    told = {name: run.data.tags.get(f"fkal.{name}") for name in ("git_commit", "device", "version")}
    assert told == {"git_commit": "f00", "device": "cuda (Big)", "version": "0.0.1"}
    assert not [name for name in run.data.metrics if name.startswith("system/")]
    assert json.loads((the_state(pulled).path / "about.json").read_text())["made_with"]["device"] == "cuda (Big)"


@pytest.mark.slow
def test_sync_tracks_what_fkal_run_left_where_the_store_is_lost(pulled):
    write_params(pulled)
    fkal("run", "--method", "random", "--seeds", "0-1")
    shutil.rmtree("data")
    told = fkal("sync", "--tracking-uri", "sqlite:///new.db").stdout
    assert "2 of 2 experiments that `fkal run` left under runs are tracked" in told
    before, runs = the_runs("experiment"), the_runs("experiment", "new.db")
    figures = [{run.info.run_name: run.data.metrics["accuracy/test"] for run in some} for some in (before, runs)]
    assert figures[0] == figures[1] and len(runs) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(the_runs("round", "new.db")) == 6
    (method,) = the_runs("method", "new.db")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {method.info.run_id}


@pytest.mark.slow
def test_sync_tracks_an_unfinished_experiment_as_far_as_it_is(pulled):
    write_params(pulled)
    shutil.rmtree("data")
    fkal("run")
    (state,) = Path("runs/state").iterdir()
    for path in state.glob("round-03.*"):
        path.unlink()
    new = ("--tracking-uri", "sqlite:///new.db")
    assert "2 of 3 rounds are finished; `fkal run` goes on with it" in fkal("sync", *new).stderr
    (run,) = the_runs("experiment", "new.db")
    assert (run.info.status, len(the_runs("round", "new.db"))) == ("KILLED", 2)
    assert the_runs("method", "new.db") == []
    fkal("run", *new)
    assert [each.info.run_id for each in the_runs("experiment", "new.db")] == [run.info.run_id]
    assert len(the_runs("round", "new.db")) == 3


def test_sync_leaves_out_a_state_that_says_not_what_it_is(pulled):
    write_params(pulled)
    shutil.rmtree("data")
    fkal("run")
    (state,) = Path("runs/state").iterdir()
    (state / "about.json").unlink()
    result = fkal("sync", code=3)
    assert "0 of 1 experiments" in result.stdout and "has no about.json" in result.stderr


def test_sync_leaves_out_what_this_user_may_not_read_and_tracks_the_others(pulled, monkeypatch):
    write_params(pulled)
    shutil.rmtree("data")
    fkal("run", "--seeds", "0-1")
    locked = sorted(Path("runs/state").iterdir())[0]

    def rounds(state, *rest):
        if state.path.name == locked.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(state.path / "round-01.json"))
        return read_rounds(state, *rest)

    read_rounds = Checkpoint.rounds
    monkeypatch.setattr(Checkpoint, "rounds", rounds)
    result = fkal("sync", "--tracking-uri", "sqlite:///new.db", code=3)
    assert "1 of 2 experiments" in result.stdout
    assert f"{locked.name}/round-01.json: Permission denied; let this user read and write there" in result.stderr
    assert "Errno" not in result.stderr


def test_sync_counts_what_it_leaves_out(pulled):
    for path in Path(EXPERIMENTS).glob("round-03.*"):
        path.unlink()
    result = fkal("sync", code=3)
    assert "0 of 1 experiments" in result.stdout
    assert "has 2 of 3 rounds" in result.stderr


def test_an_adoption_that_was_killed_is_gone_on_with(pulled, said):
    restore(Path("data"), Path("runs"), said.append)
    state = the_state(pulled)
    whole = {path.name: path.read_bytes() for path in state.path.glob("round-*")}
    for name in ("round-02.json", "round-03.json", "round-03.safetensors"):
        (state.path / name).unlink()
    restore(Path("data"), Path("runs"), said.append)
    assert {path.name: path.read_bytes() for path in state.path.glob("round-??.*") if path.name in whole} == whole
    assert said == []


def test_iterations_of_another_course_are_kept(pulled, said):
    restore(Path("data"), Path("runs"), said.append)
    state = the_state(pulled)
    for name in ("round-02", "round-03"):
        for path in state.path.glob(f"{name}.*"):
            path.unlink()
    facts = json.loads((state.path / "round-01.json").read_text())
    (state.path / "round-01.json").write_bytes(facts_bytes({**facts, "epoch": 77}))
    restore(Path("data"), Path("runs"), said.append)
    assert state.finished_count == 1
    assert "came out otherwise" in said[0]


def test_an_experiment_at_work_keeps_no_stage_from_its_own(pulled, said):
    with the_state(pulled):
        restore(Path("data"), Path("runs"), said.append)
    assert "is held by process" in said[0]
    restore(Path("data"), Path("runs"), said.append)
    with the_state(pulled):
        restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1


@pytest.mark.parametrize("content", ["{", '{"format": "fkal-experiment-9"}', '{"format": "fkal-experiment-1"}'])
def test_what_this_version_cannot_read_is_told_and_keeps_no_stage_from_its_work(pulled, said, content):
    (Path(EXPERIMENTS) / "about.json").write_text(content)
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1
    assert "not a published experiment" in said[0]
    assert not Path("runs/state").exists()


def test_an_experiment_whose_list_is_missing_is_named_and_hides_no_other(pulled, said):
    other = shutil.copytree(EXPERIMENTS, Path(EXPERIMENTS).with_name("s1"))
    (other / "about.json").unlink()
    result = fkal("report", "--to", "to", code=3)
    assert f"{other / 'about.json'}: not a published experiment" in result.stderr and Path("to/index.html").exists()
    restore(Path("data"), Path("runs"), said.append)
    assert [str(other) in each for each in said] == [True]
    synced = fkal("sync", code=3)
    assert "1 of 2 experiments" in synced.stdout and f"{other}: " in synced.stderr


def test_a_cell_without_a_seed_is_told_as_not_published(pulled):
    empty = Path("data/experiments/mine-2-margin")
    empty.mkdir()
    shutil.copy("data/plan/mine-2/methods/random.yaml", "data/plan/mine-2/methods/margin.yaml")
    fkal("report", "--to", "to")
    assert "mine-2-margin: planned and not published; run: dvc repro" in Path("to/index.html").read_text()


@pytest.mark.slow
def test_a_holdout_is_what_metrics_tell_of(tmp_path, monkeypatch):
    project = published_in(tmp_path / "held", monkeypatch, holdout=1)
    metrics = json.loads((project / "data/metrics/mine-2-random.json").read_text())
    last = pd.read_csv(project / "data/curves/mine-2-random.csv").iloc[-1]
    assert metrics["final_accuracy"] == {"mean": pytest.approx(100 * last["holdout/accuracy"], abs=1e-3)}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_files() -> dict[str, dict]:
    planning.plan(None, Path("data"), Path("runs"))
    return {path.name: yaml.safe_load(path.read_text()) for path in Path("data/plan").rglob("*.yaml")}


def test_what_grid_prints_is_planned_cell_by_cell(here):
    printed = fkal(
        "grid", "--dataset", "digits,mnist", "--ratio", "1,20", "--method", "random,pcc@conv2,varr:e2", "--seeds", "0-1"
    ).stdout
    Path("params.yaml").write_text(printed)
    assert "data/plan: 12 cells" in fkal("plan").stdout
    for dataset, ratio in (("digits", 1), ("digits", 20), ("mnist", 1), ("mnist", 20)):
        folder = Path(f"data/plan/{dataset}-{ratio}/methods")
        assert {path.stem for path in folder.iterdir()} == {"random", "pcc_conv2", "varr:e2"}
        work = planning.planned(folder / "pcc_conv2.yaml", "experiment")
        assert [(c.data.name, c.bias.ratio, c.seed) for c in work.configs] == [(dataset, ratio, 0), (dataset, ratio, 1)]
        assert work.configs[0].acquisition.taps == ("conv2",)


def test_a_chosen_device_reaches_the_stages_and_auto_is_not_mentioned(here):
    write_params(here, device="cpu")
    files = plan_files()
    assert files["random.yaml"]["settings"]["device"] == "cpu"
    assert planning.planned(Path("data/plan/mine-2/methods/random.yaml"), "experiment").configs[0].device == "cpu"
    write_params(here)
    assert not [path for path in Path("data/plan").rglob("*.yaml") if plan_files() and "device" in path.read_text()]


def test_labels_that_are_estimated_otherwise_than_before_reach_who_describes_by_them_and_who_picks_by_them(
    here, monkeypatch
):
    write_params(here, ("random", "pfk_joint", "pfk_trace"))
    before = plan_files()
    monkeypatch.setitem(LABEL_REVISIONS, "trace", 99)
    after = plan_files()
    assert {name for name in after if after[name] != before[name]} == {"descriptors.yaml", "pfk_trace.yaml"}
    was, now = (files["descriptors.yaml"]["methods"] for files in (before, after))
    assert [method["cell"] for method, old in zip(now, was, strict=True) if method != old] == ["mine-2/pfk_trace"]
    assert len(planning.planned_methods(Path("data/plan/mine-2/descriptors.yaml"), "descriptors")) == 3


def test_what_other_cells_published_is_taken_away_and_kept_in_the_scratch_folder(pulled):
    """A stage that depends on a whole folder would run for it."""
    write_params(pulled)
    planning.plan(None, Path("data"), Path("runs"))
    assert Path(EXPERIMENTS).is_dir() and Path(TIMINGS).is_file()
    write_params(pulled, ("coreset",))
    Path("data/experiments/.gitignore").write_text("*")
    for pair in ("mine-2", "others-2"):
        Path("data/splits", pair).mkdir(parents=True)
    planning.plan(None, Path("data"), Path("runs"))
    left = [
        path.name for kind in ("experiments", "metrics", "curves", "timings") for path in Path("data", kind).iterdir()
    ]
    assert left == [".gitignore"]
    assert [path.name for path in Path("data/splits").iterdir()] == ["mine-2"]
    assert len(list(Path("runs/state").glob("*/round-*.json"))) == 3


@pytest.mark.parametrize(
    ("command", "file"),
    [("run", "mine-2/split.yaml"), ("split", "mine-2/methods/random.yaml"), ("split", "mine-2/pretrain.yaml")],
)
def test_the_plan_of_another_stage_is_refused(here, command, file):
    write_params(here)
    planning.plan(None, Path("data"), Path("runs"))
    assert "not the plan of this stage" in fkal(command, "--plan", f"data/plan/{file}", code=2).stderr
    assert not Path("data/splits").exists()


@pytest.mark.parametrize("command", ["run", "pretrain", "descriptors", "split"])
def test_a_plan_that_is_not_there_names_what_makes_it(here, command):
    files = {"run": "methods/random.yaml", "split": "split.yaml"}
    file = "nowhere/" + files.get(command, f"{command}.yaml")
    assert "fkal plan" in fkal(command, "--plan", file, code=4).stderr


@pytest.mark.parametrize(
    ("section", "words"),
    [({"model": {"name": "lenett"}}, "model.name = 'lenett'"), ({"data": {"name": "mnits"}}, "data.name = 'mnits'")],
)
def test_names_that_nothing_has_are_refused_by_the_plan(here, section, words):
    write_params(here, **section)
    result = fkal("plan", code=2)
    assert words in result.stderr and "did you mean" in result.stderr
    assert not Path("data/plan").exists()


def test_where_nothing_is_published_sync_and_report_say_so(here):
    for command in (["sync"], ["report"]):
        assert "nothing is published under data" in fkal(*command, code=4).stderr


def test_an_ensemble_changes_no_other_methods_weights(here):
    rotation = {"task": "rotation", "epochs": 1, "decay_epochs": []}
    draw_images(here / "data")
    folder = Path("data/pretrained/mine-2")
    shapes = {}
    for methods in (("random",), ("random", "varr_e2", "cold")):
        write_params(here, methods, pretrain=rotation)
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["methods"] = {"varr_e2": "varr:e2", "cold": "random:random_theta_0"}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        planning.plan(None, Path("data"), Path("runs"))
        stages.pretrain(Path("data/plan/mine-2/pretrain.yaml"), Path("runs"))
        shapes[methods] = {path.name: path.read_bytes() for path in (folder / "random").iterdir()}
    first, second = shapes.values()
    assert first == second
    assert len(list((folder / "varr_e2").glob("*.safetensors"))) == 2
    assert not list((folder / "cold").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("command", "options"),
    [("run", ("--dry-run",)), ("run", ("--method", "pcc", "--seeds", "1")), ("run", ("--set", "seed=1")),
     ("pretrain", ("--json",)), ("split", ("--seeds", "1")), ("descriptors", ("--ratio", "1"))],
)  # fmt: skip
def test_options_that_a_plan_would_not_hear_are_refused(here, command, options):
    result = fkal(command, "--plan", "plan.yaml", *options, code=2)
    for option in options:
        assert not option.startswith("--") or option in result.stderr


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder beside the project, of which nothing may go or change."""
    folder = tmp_path / "precious"
    (folder / "s0").mkdir(parents=True)
    for name in PRECIOUS:
        (folder / name).write_text("mine")
    return folder


def is_whole(precious: Path) -> bool:
    files = {path.relative_to(precious).as_posix(): path.read_text() for path in precious.rglob("*") if path.is_file()}
    return files == dict.fromkeys(PRECIOUS, "mine")


PRECIOUS = ("thesis.tex", "s0/about.json", "notes.json")
STAGES = {
    "split": "split.yaml",
    "pretrain": "pretrain.yaml",
    "descriptors": "descriptors.yaml",
    "run": "methods/random.yaml",
}
KINDS = {"split": "splits", "pretrain": "pretrained", "descriptors": "descriptors", "run": "experiments"}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """With a plan and images, before any stage."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FKAL_DATA_ROOT", str(draw_images(tmp_path / "images")))
    write_params(folder)
    planning.plan(None, Path("data"), Path("runs"))
    return folder


def forge_cell(stage: str, cell: object) -> str:
    """The stage's plan file, with another cell."""
    path = Path("data/plan/mine-2", STAGES[stage])
    content = yaml.safe_load(path.read_text())
    (content["methods"][0] if "methods" in content else content)["cell"] = cell
    path.write_text(yaml.safe_dump(content))
    return str(path)


def published_folder(stage: str) -> Path:
    return Path("data", KINDS[stage]) / ("mine-2-random" if stage == "run" else "mine-2")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "cell", ["../../../precious/x", "../../precious", "{precious}", "..", ".", "", "a/..", 3, None]
)
def test_a_cell_of_a_plan_that_is_a_path_ends_the_stage_before_its_work(project, precious, stage, cell):
    cell = str(precious) if cell == "{precious}" else cell
    told = fkal(stage, "--plan", forge_cell(stage, cell), code=2).stderr
    assert told.count("error: ") == 1 and told.count("\n") == 1
    assert STAGES[stage] in told and f"cell: {cell!r}"[:70] in told and "run: fkal plan" in told
    assert is_whole(precious)
    assert not Path("data", KINDS[stage]).exists() and not Path("runs/state").exists()


@pytest.mark.parametrize("stage", ["pretrain", "descriptors"])
def test_a_cell_without_a_method_does_not_take_all_that_was_published_of_its_kind(project, stage):
    other = Path("data", KINDS[stage], "others-2", "random")
    other.mkdir(parents=True)
    (other / "about.json").write_text("{}")
    fkal(stage, "--plan", forge_cell(stage, "mine-2"), code=2)
    assert (other / "about.json").exists()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("depth", ["kind", "cell"])
def test_a_link_where_a_stage_publishes_ends_it_before_its_work(project, precious, stage, depth):
    link = published_folder(stage) if depth == "cell" else published_folder(stage).parent
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(precious)
    told = fkal(stage, "--plan", f"data/plan/mine-2/{STAGES[stage]}", code=2).stderr
    assert str(link) in told and "remove the link" in told
    assert is_whole(precious) and not Path("runs/state").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_a_published_folder_with_a_foreign_file_ends_the_stage_before_its_work(project, stage):
    folder = published_folder(stage)
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("mine")
    told = fkal(stage, "--plan", f"data/plan/mine-2/{STAGES[stage]}", code=2).stderr
    assert str(folder) in told and "'thesis.tex'" in told and "move that away" in told
    assert (folder / "thesis.tex").read_text() == "mine" and not Path("runs/state").exists()


@pytest.mark.parametrize("kind", ["metrics", "curves", "timings"])
def test_a_link_where_the_files_of_a_cell_go_ends_the_stage_before_its_work(project, precious, kind):
    Path("data", kind).symlink_to(precious)
    assert f"data/{kind}" in fkal("run", "--plan", "data/plan/mine-2/methods/random.yaml", code=2).stderr
    assert is_whole(precious) and not Path("runs/state").exists()


@pytest.mark.parametrize("kind", ["splits", "state"])
def test_a_link_in_the_scratch_folder_is_not_followed_out(project, precious, kind):
    Path("runs").mkdir(exist_ok=True)
    Path("runs", kind).symlink_to(precious)
    told = fkal("run", "--plan", "data/plan/mine-2/methods/random.yaml", code=2).stderr
    assert f"runs/{kind}" in told and "leads out of runs" in told
    assert is_whole(precious)


@pytest.mark.parametrize("place", ["plan", "plan/mine-2", "splits/x", "experiments/x", "experiments", "metrics"])
def test_a_plan_neither_empties_nor_fills_what_a_link_leads_to(project, precious, place):
    for name in ("split.yaml", "x.yaml"):
        (precious / name).write_text("mine")
    link = Path("data", place)
    if link.exists():
        shutil.rmtree(link)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(precious)
    assert str(link) in fkal("plan", code=2).stderr
    for name in ("split.yaml", "x.yaml"):
        assert (precious / name).read_text() == "mine"
        (precious / name).unlink()
    assert is_whole(precious)


@pytest.mark.parametrize("kind", ["splits", "pretrained", "descriptors", "experiments"])
def test_a_plan_that_would_remove_a_foreign_file_leaves_all_as_it_is(project, kind):
    mine = Path("data", kind, "mine", "s0", "thesis.tex")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    write_params(project, ("coreset",))
    told = fkal("plan", code=2).stderr
    assert "'s0/thesis.tex'" in told and told.count("\n") == 1
    assert mine.read_text() == "mine"
    assert Path("data/plan/mine-2/methods/random.yaml").exists()


def test_a_plan_removes_no_file_that_no_plan_wrote(project):
    names = ["plan/notes.yaml", "plan/mine-2/methods/deep/er.yaml", "metrics/a note.json", "curves/random.txt"]
    for name in names:
        Path("data", name).parent.mkdir(parents=True, exist_ok=True)
        Path("data", name).write_text("mine")
    Path("data/metrics/others-2-random.json").write_text("{}")
    write_params(project, ("coreset",))
    planning.plan(None, Path("data"), Path("runs"))
    assert [Path("data", name).read_text() for name in names] == 4 * ["mine"]
    assert not Path("data/metrics/others-2-random.json").exists()
    assert not Path("data/plan/mine-2/methods/random.yaml").exists()


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "-rf", "a/b", 101 * "a"])
def test_a_name_of_the_grid_that_is_no_folder_is_refused(project, name):
    for key in ("dataset", "method"):
        write_params(project)
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["grid"][key] = [name]
        params["datasets"][name] = params["datasets"]["mine"]
        Path("params.yaml").write_text(yaml.safe_dump(params))
        told = fkal("plan", code=2).stderr
        assert "cannot name a stage" in told or "at most 100 characters" in told


@pytest.mark.parametrize("value", ["../../../precious", "{precious}", "..", "", ".", None, 3, 32 * "G"])
@pytest.mark.parametrize("key", ["fingerprint", "split_digest"])
def test_a_published_digest_that_is_none_is_left_out(pulled, precious, said, key, value):
    value = str(precious) if value == "{precious}" else value
    path = Path(EXPERIMENTS) / "about.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1 and str(path) in said[0] and f"{key}: {value!r}"[:60] in said[0]
    result = fkal("sync", code=3)
    assert "0 of 1 experiments" in result.stdout and "32 hexadecimal digits" in result.stderr
    assert is_whole(precious) and not Path("runs/state").exists()


def test_published_files_are_not_taken_over_through_a_link_nor_under_foreign_names(pulled, precious, said):
    weights = Path("data/pretrained/mine-2/random", f"{32 * 'a'}.safetensors")
    shard = Path("data/descriptors/mine-2/random", 32 * "b", "0000.safetensors")
    foreign = weights.with_name("model.safetensors")
    for path in (weights, shard, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    Path("runs/descriptors").mkdir(parents=True)
    Path("runs/pretrained").symlink_to(precious)
    Path("runs/descriptors", 32 * "b").symlink_to(precious)
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 3
    assert all(str(path) in " ".join(said) for path in (weights, shard, foreign))
    assert is_whole(precious)


def test_published_iterations_are_not_taken_over_through_a_link(pulled, precious, said):
    state = the_state(pulled)
    state.path.parent.mkdir(parents=True)
    state.path.symlink_to(precious)
    restore(Path("data"), Path("runs"), said.append)
    assert len(said) == 1 and "leads out of runs" in said[0]
    assert "leads out of runs" in fkal("sync", code=3).stderr
    assert is_whole(precious)


@pytest.mark.parametrize(
    ("kind", "flaw"),
    [
        ("pipe", "it is a pipe, not a file"),
        ("folder", "it is a folder, not a file"),
        ("dead link", "No such file or directory"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_among_published_ones_is_named_and_stays_out_of_the_scratch_folder(pulled, said, kind, flaw):
    weights = Path("data/pretrained/mine-2/random", f"{32 * 'a'}.safetensors")
    weights.parent.mkdir(parents=True, exist_ok=True)
    iteration = Path(EXPERIMENTS, "round-01.safetensors")
    iteration.unlink()
    for path in (weights, iteration):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path.name if kind == "loop" else "nothing")
    restore(Path("data"), Path("runs"), said.append)
    assert said[0] == f"{weights}: {flaw}; it is not taken over; bring it back: dvc checkout --force"
    assert f"{iteration}: {flaw}; bring it back" in said[1]
    assert [path.name for path in Path("runs").rglob("*.safetensors")] == []
