"""The plan looks whether images have changed: `fkal plan` in one process, on a few small images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageOps
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.config.method_spec import ACQUISITIONS, METHOD_ALIASES
from fkal.data import file_digests
from fkal.pipeline import plan as planning

SETTINGS = {"data": {"name": "folder", "folder": "mine", "validation_per_class": 4}, "threads": 1}
SPLIT = Path("data/plan/mine-2/split.yaml")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A grid of one dataset and two ratios, whose images lie where FKAL_DATA_ROOT says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_digests, "SETTLED_NS", 0)
    monkeypatch.setenv("FKAL_DATA_ROOT", str(tmp_path / "images"))
    write_params()
    draw_images(tmp_path / "images" / "mine")
    return tmp_path


def write_params(**data: object) -> None:
    grid = {"dataset": ["mine"], "ratio": [1, 2], "method": ["random"], "seeds": "0"}
    settings = {**SETTINGS, "data": {**SETTINGS["data"], **data}}
    content = {"grid": grid, "methods": {}, "datasets": {"mine": settings}}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def draw_images(tree: Path) -> None:
    for part in ("train", "test"):
        for label, shade in (("dark", 30), ("light", 220)):
            (tree / part / label).mkdir(parents=True)
            for i in range(5):
                Image.new("L", (8, 8), shade + i).save(tree / part / label / f"{i:02}.png")


def invert(tree: Path) -> None:
    for path in (tree / "train").rglob("*.png"):
        with Image.open(path) as image:
            ImageOps.invert(image).save(path)


def plan(*options: str) -> dict[str, bytes]:
    """The plan's files after `fkal plan`."""
    result = CliRunner().invoke(app, ["plan", *options])
    assert result.exit_code == 0, result.output
    return {str(path): path.read_bytes() for path in sorted(Path("data/plan").rglob("*.yaml"))}


def source() -> str:
    return yaml.safe_load(SPLIT.read_text())["source"]


def test_changed_images_change_the_plans_of_splits_and_no_others(project):
    before = plan()
    invert(project / "images" / "mine")
    after = plan()
    assert {name for name in after if after[name] != before[name]} == {
        "data/plan/mine-1/split.yaml",
        "data/plan/mine-2/split.yaml",
    }


def test_touched_images_change_no_plan(project):
    before = plan()
    for path in (project / "images").rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert plan() == before


def test_a_second_plan_reads_no_image_and_verify_reads_each_once(project, monkeypatch):
    read: list[str] = []
    plain = file_digests.open_regular
    monkeypatch.setattr(file_digests, "open_regular", lambda path: (read.append(str(path)), plain(path))[1])
    before = plan()
    assert len(read) == 20 == len(set(read))  # for both ratios
    assert plan() == before and len(read) == 20
    assert plan("--verify") == before and len(read) == 40


def test_images_that_are_elsewhere_on_another_machine_have_the_same_plan(project, monkeypatch):
    before = plan()
    shutil.move(project / "images", project / "elsewhere")
    monkeypatch.setenv("FKAL_DATA_ROOT", str(project / "elsewhere"))
    assert plan() == before


def test_images_that_are_not_there_yet_are_absent(project):
    shutil.move(project / "images", project / "away")
    plan()
    assert source() == "absent"
    shutil.move(project / "away", project / "images")
    plan()
    assert source() != "absent"


def test_where_the_images_went_the_plan_keeps_the_digest_of_what_was_drawn_from(project):
    before = plan()
    shutil.move(project / "images", project / "away")
    assert plan() == before
    write_params(folder="others")
    plan()
    assert source() == "absent"  # of another tree nothing was drawn


@pytest.mark.parametrize("content", ["", "[", "source: ../x\n", "source: 3\nsettings: 4\n"])
def test_an_earlier_plan_that_is_none_is_not_believed(project, content):
    plan()
    shutil.move(project / "images", project / "away")
    SPLIT.write_text(content)
    plan()
    assert source() == "absent"


def test_a_stage_reads_a_plan_with_a_source(project):
    plan()
    assert planning.planned(SPLIT, "split").cell == "mine-2"


def test_a_plan_imports_no_torch(project):
    program = (
        "import sys; from pathlib import Path; from fkal.pipeline.plan import plan;"
        "plan(None, Path('data'), Path('runs')); print({'torch', 'pandas', 'mlflow'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "set()" and source() != "absent"


def test_one_method_under_two_names_is_refused(project):
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["grid"]["method"], content["methods"] = ["random", "drawn"], {"drawn": "random"}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(app, ["plan"])
    assert result.exit_code == 2 and "two names stand for mine-ir1-random-s0" in result.stderr
    assert not Path("data/plan").exists()


def copied(name: str, other: str) -> Path:
    """A plan file of the project with the content of another."""
    path = Path("data/plan") / name
    path.write_bytes((Path("data/plan") / other).read_bytes())
    return path


@pytest.mark.parametrize(
    ("name", "other", "part"),
    [
        ("mine-2/split.yaml", "mine-1/split.yaml", "the plan of this place is that of mine-2;"),
        ("mine-2/split.yaml", "mine-2/methods/random.yaml", "the plan of this place is that of mine-2;"),
        ("mine-2/methods/random.yaml", "mine-1/methods/random.yaml", "is that of mine-2-random;"),
        ("mine-2/pretrain.yaml", "mine-1/pretrain.yaml", "is that of mine-2/METHOD;"),
        ("mine-2/descriptors.yaml", "mine-1/descriptors.yaml", "is that of mine-2/METHOD;"),
        ("mine-2/descriptors.yaml", "mine-2/pretrain.yaml", "acquisition.batch_size, holdout left out;"),
    ],
)
def test_the_plan_of_another_place_is_refused_and_publishes_nothing(project, name, other, part):
    plan()
    path = copied(name, other)
    stage = "run" if path.parent.name == "methods" else path.stem
    result = CliRunner().invoke(app, [stage, "--plan", str(path)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.output
    assert part in result.stderr and "make it again: fkal plan" in result.stderr
    assert not any(Path("data").glob("splits/*")) and not any(Path("data").glob("experiments/*"))


@pytest.mark.parametrize("stage", ["pretrain", "descriptors"])
def test_a_stage_is_given_its_own_file(project, stage):
    plan()
    other = {"pretrain": "descriptors", "descriptors": "pretrain"}[stage]
    result = CliRunner().invoke(app, [stage, "--plan", f"data/plan/mine-2/{other}.yaml"])
    assert result.exit_code == 2 and f"give PLAN/DATASET-RATIO/{stage}.yaml" in result.stderr


@pytest.mark.parametrize("name", ["split.yaml", "methods/random.yaml"])
@pytest.mark.parametrize("section", ["data", "bias"])
def test_a_section_that_is_left_out_or_empty_is_not_taken_from_the_defaults(project, name, section):
    plan()
    path = Path("data/plan/mine-2") / name
    whole = yaml.safe_load(path.read_text())
    stage = "split" if name == "split.yaml" else "run"
    for value, part in (({}, "left out; make it again: fkal plan"), (3, f"{section} = 3: give a section")):
        path.write_text(yaml.safe_dump({**whole, "settings": {**whole["settings"], section: value}}))
        result = CliRunner().invoke(app, [stage, "--plan", str(path)])
        assert result.exit_code == 2 and part in result.stderr, result.output
    del whole["settings"][section]
    path.write_text(yaml.safe_dump(whole))
    assert "left out" in CliRunner().invoke(app, [stage, "--plan", str(path)]).stderr


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("settings", 3, "give keys with values"), ("seeds", "x", "give a list")],
)
def test_a_plan_with_a_wrong_type_is_told_in_plain_words(project, key, value, rule):
    plan()
    path = Path("data/plan/mine-2/split.yaml")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    result = CliRunner().invoke(app, ["split", "--plan", str(path)])
    assert result.exit_code == 2
    assert f"{path}: {key} = " in result.stderr and f"{rule}; make it again: fkal plan" in result.stderr


def test_a_stage_in_the_folder_of_its_plan_publishes_where_the_plan_is(project, monkeypatch):
    plan()
    monkeypatch.chdir(SPLIT.parent)
    assert planning.planned(Path(SPLIT.name), "split").root.resolve() == project / "data"


@pytest.mark.parametrize("dataset", ["digits", "mnist", "cifar10-frozen", "folder"])
def test_every_plan_is_read_by_its_stage_whatever_the_method(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FKAL_DATA_ROOT", str(tmp_path / "nowhere"))
    ratio = "1" if dataset == "folder" else "10"
    own = ["--folder", "mine"] if dataset == "folder" else []
    arguments = ["grid", "--dataset", dataset, "--ratio", ratio, "--method", "random", *own]
    content = yaml.safe_load(CliRunner().invoke(app, arguments).stdout)
    specs = [*sorted(ACQUISITIONS), *METHOD_ALIASES, "varr:e3", "pfk_joint:whiten", "random:head_only"]
    content["methods"] = {f"m{i}": spec for i, spec in enumerate(specs)}
    content["grid"]["method"] = list(content["methods"])
    Path("params.yaml").write_text(yaml.safe_dump(content))
    plan()
    for path in Path("data/plan").rglob("*.yaml"):
        stage = "experiment" if path.parent.name == "methods" else path.stem
        if stage in planning.SEVERAL:
            assert len(planning.planned_methods(path, stage)) == len(specs)
        else:
            assert planning.planned(path, stage).configs
