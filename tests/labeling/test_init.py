"""fkal init: what it finds, what it writes, and what it leaves alone."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fkal.data.errors import MissingData
from fkal.errors import ConfigError, MissingWeights
from fkal.labeling import init as module
from fkal.labeling.feature_checking import LATER
from fkal.labeling.init import InitOptions, init, suggested_budget
from fkal.labeling.label_store import LabelStore
from fkal.labeling.project import Project
from fkal.labeling.quarantine import read_quarantine
from fkal.labeling.scan import Leak
from fkal.notify import PLAIN


def picture(path, seed, *, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), seed, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    """Six in the pool, in two formats; validation has twelve cats and one dog, the test one of each."""
    for n in range(6):
        picture(tmp_path / "pool" / f"{n}.{'png' if n else 'bmp'}", n)
    for n in range(12):
        picture(tmp_path / "val" / "cat" / f"{n}.png", 100 + n)
    picture(tmp_path / "val" / "dog" / "a.png", 120)
    for seed, name in enumerate(("cat", "dog"), 130):
        picture(tmp_path / "test" / name / "a.png", seed)
    return tmp_path


def options(folder, **others):
    places = {"pools": ("pool",), "validation": ("val",), "test": ("test",), "labeled": (), **others}
    paths = ("pools", "validation", "test", "labeled")
    return InitOptions(**{k: tuple(str(folder / each) for each in v) if k in paths else v for k, v in places.items()})


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_what_was_found_is_said_and_written(images):
    summary = init(images / "pets", options(images), PLAIN)
    pool, validation, test = summary.parts
    assert (pool.listed, dict(pool.formats), validation.listed, test.listed) == (6, {"PNG": 5, "BMP": 1}, 13, 2)
    assert pool.bytes == sum(path.stat().st_size for path in (images / "pool").iterdir())
    assert dict(validation.per_class) == {"cat": 12, "dog": 1} and summary.too_few == {"dog": 1}
    assert summary.classes == ("cat", "dog") and summary.budget == 2
    estimate = summary.estimate
    assert estimate.read_seconds > 0 and estimate.model_seconds > 0 and estimate.disk_bytes == 6 * (256 + 512) * 4 * 2
    project = Project.open(images / "pets")
    assert project.name == "pets" and project.config(environment={}).data.image_size == 8
    assert (images / "pets" / ".fkal" / ".gitignore").read_text() == "*\n!.gitignore\n"


@pytest.mark.parametrize(("cats", "matching"), [(98, "noisy_or"), (99, "coverage")])
def test_the_method_goes_by_the_mean_number_of_validation_images(images, cats, matching):
    for n in range(cats - 12):
        picture(images / "val" / "cat" / f"more{n}.png", 140 + n, side=9 + n // 100)
    init(images / "pets", options(images), PLAIN)
    assert Project.open(images / "pets").config(environment={}).acquisition.matching == matching


def test_the_same_call_again_changes_nothing(images):
    assert not init(images / "pets", options(images), PLAIN).was_there
    before = contents(images / "pets")
    again = init(images / "pets", options(images), PLAIN)
    assert again.was_there and [part.added for part in again.parts] == [0, 0, 0]
    assert contents(images / "pets") == before


def test_edited_params_and_appended_classes_stay(images):
    init(images / "pets", options(images), PLAIN)
    params = images / "pets" / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 5  # mine"))
    Project.open(images / "pets").add_classes(["owl"])
    init(images / "pets", options(images), PLAIN)
    assert "seed: 5  # mine" in params.read_text() and Project.open(images / "pets").classes == ("cat", "dog", "owl")


def test_other_places_than_the_projects_name_the_command_that_adds_them(images):
    init(images / "pets", options(images), PLAIN)
    with pytest.raises(ConfigError, match=r"without .*/val in pools; add it: fkal pool add .*/val"):
        init(images / "pets", options(images, pools=("pool", "val")), PLAIN)


def test_a_leak_makes_no_project_until_it_is_dropped(images):
    picture(images / "pool" / "leak.png", 100)
    with pytest.raises(Leak, match=r"pool 'leak.png': the same image is in validation: cat/0.png"):
        init(images / "pets", options(images), PLAIN)
    assert contents(images / "pets") == {}
    summary = init(images / "pets", options(images, drop_leaks=True), PLAIN)
    assert (summary.parts[0].dropped, summary.parts[0].listed) == (1, 6)


def test_what_a_killed_first_call_listed_is_not_in_the_lists_of_another_call(images, monkeypatch):
    monkeypatch.setattr(module, "_remove_lists", lambda folder: None)
    monkeypatch.setattr(module, "labels_of_places", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        init(images / "pets", options(images), PLAIN)
    assert (images / "pets" / "validation.parquet").exists()
    monkeypatch.undo()
    init(images / "pets", options(images, validation=("test",), test=()), PLAIN)
    assert sorted(Project.open(images / "pets").validation.paths) == ["cat/a.png", "dog/a.png"]
    assert not (images / "pets" / "test.parquet").exists()


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"groups": "("}, "--groups = '\\(': groups: '\\(': not a regular expression"),
        ({"groups": " "}, "--groups = ' '"),
        ({"backbone": "nosuch:x"}, "--backbone = 'nosuch:x': unknown model 'nosuch:x'"),
        ({"pools": ("gone",)}, "gone: there is no such folder or file"),
        ({"validation": ("s3:",)}, "there is no such folder or file"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_written(images, others, said):
    with pytest.raises((ConfigError, MissingData), match=said):
        init(images / "pets", options(images, **others), PLAIN)
    assert not (images / "pets").exists()


@pytest.mark.parametrize(
    "text", ["", "path\n", "path,label\n\n", '{"path": "a\\u0000.png"}\n', '{"path": "\\ud800.png"}\n']
)
def test_a_list_without_a_usable_image_is_refused(images, text):
    (images / "list.jsonl" if text.startswith("{") else images / "list.csv").write_text(text)
    (place,) = images.glob("list.*")
    with pytest.raises(ConfigError, match=r"lists no image|none of 1 images can be used"):
        init(images / "pets", options(images, pools=(place.name,)), PLAIN)
    assert contents(images / "pets") == {}


def test_a_folder_that_cannot_be_made_is_named(images):
    (images / "file").write_text("x")
    for place in (images / "file", images / "file" / "pets", images / ("n" * 300), Path("/proc/pets")):
        with pytest.raises(ConfigError, match="no folder can be made there"):
            init(place, options(images), PLAIN)


def test_an_image_of_the_test_set_leaves_the_validation_set(images):
    picture(images / "val" / "cat" / "leak.png", 130)
    with pytest.raises(Leak, match=r"validation 'cat/leak.png': the same image is in test"):
        init(images / "pets", options(images), PLAIN)
    summary = init(images / "pets", options(images, drop_leaks=True), PLAIN)
    assert [part.listed for part in summary.parts] == [6, 13, 2]


def test_labels_that_are_there_are_labels_of_pool_images(images):
    picture(images / "known" / "dog" / "copy.png", 3)
    picture(images / "known" / "owl" / "new.png", 77)
    for _ in range(2):
        init(images / "pets", options(images, labeled=("known",)), PLAIN)
    project = Project.open(images / "pets")
    rows = LabelStore(project.folder).rows()
    assert [(row.path, row.label, row.source) for row in rows] == [
        ("3.png", "dog", "init"),
        ("owl/new.png", "owl", "init"),
    ]
    assert [row.digest for row in rows] == [project.pool.digests[3], project.pool.digests[6]]
    assert project.classes == ("cat", "dog", "owl") and len(project.pool) == 7
    found = project.dataset(labels={row.digest: row.label for row in rows})
    assert found.train.labels[[3, 6]].tolist() == [1, 2]


@pytest.mark.parametrize("is_in_the_pool", [True, False], ids=["also in the pool", "among the labeled alone"])
@pytest.mark.parametrize("places", [("known", "known"), ("known", "more")], ids=["one place", "two places"])
def test_an_image_that_is_labeled_as_two_classes_is_set_aside(images, is_in_the_pool, places):
    for place, name in zip(places, ("cat", "dog"), strict=True):
        picture(images / place / name / "both.png", 3 if is_in_the_pool else 77)
    picture(images / "known" / "dog" / "clear.png", 4)
    for _ in range(2):
        summary = init(images / "pets", options(images, labeled=tuple(dict.fromkeys(places))), PLAIN)
        assert summary.parts[0].set_aside == {"contradiction": 2 + is_in_the_pool}
    project = Project.open(images / "pets")
    assert [(row.path, row.label) for row in LabelStore(project.folder).rows()] == [("4.png", "dog")]
    expected = [name for name in ("0.bmp", *(f"{n}.png" for n in range(1, 6))) if name != "3.png" or not is_in_the_pool]
    assert list(project.pool.paths) == expected
    assert all("other labels: cat, dog" in row.reason for row in read_quarantine(project.quarantine_path))


def test_a_label_that_a_second_class_contradicts_later_stays(images):
    picture(images / "known" / "dog" / "a.png", 3)
    init(images / "pets", options(images, labeled=("known",)), PLAIN)
    picture(images / "known" / "owl" / "a.png", 3)
    assert init(images / "pets", options(images, labeled=("known",)), PLAIN).parts[0].set_aside == {"contradiction": 1}
    project = Project.open(images / "pets")
    assert [row.label for row in LabelStore(project.folder).rows()] == ["dog"] and len(project.pool) == 6


def test_groups_in_two_parts_are_counted(images):
    summary = init(images / "pets", options(images, groups=r"(\d)[.]"), PLAIN)
    assert (summary.groups, summary.shared_groups) == (6, 6)


def test_a_name_of_a_dataset_is_refused(images):
    with pytest.raises(ConfigError, match="--name mnist: is a dataset of fkal"):
        init(images / "pets", options(images, name="mnist"), PLAIN)
    assert Project.open(init(images / "mnist", options(images), PLAIN).folder).name == "folder-mnist"


def test_the_suggested_budget_follows_classes_and_is_a_small_part_of_the_pool():
    assert suggested_budget(100_000, 3, 0)[0] == 30 and suggested_budget(100_000, 0, 0)[0] == 20
    assert suggested_budget(200, 43, 0)[0] == 10 and suggested_budget(36_000, 43, 1_220)[0] == 61
    assert suggested_budget(5, 2, 0)[0] == 2


def test_dvc_gets_a_stage_that_reads_what_training_depends_on(images, monkeypatch):
    calls = []
    monkeypatch.setattr(module.subprocess, "run", lambda command, **options: calls.append((command, options)) or Done())
    init(images / "pets", options(images, dvc=True), PLAIN)
    stage = yaml.safe_load((images / "pets" / "dvc.yaml").read_text())["stages"]["train"]
    assert stage["cmd"] == "fkal train" and {"labels.csv", "test.parquet"} <= set(stage["deps"])
    assert stage["params"] == [{"params.yaml": None}]  # whatever is set, fkal train knows whether it matters
    assert "outs" not in stage  # a frozen model has no first weights, and DVC stops where an output is missing
    ((command, given),) = calls
    assert command[1:4] == ["-m", "dvc", "init"] and given["cwd"] == images / "pets"


class Done:
    returncode = 0


def test_features_of_a_backbone_are_checked_where_its_weights_are_here(images, weights):
    for n in range(12):
        picture(images / "val" / "dog" / f"{n}.png", 200 + n)
    summary = init(images / "pets", options(images, backbone="resnet10", weights=weights), PLAIN)
    assert re.fullmatch(
        r"feature check of pets: a head on 25 validation images has [\d.]+ % balanced accuracy \(\d folds\).*",
        summary.feature_check,
    )
    config = Project.open(images / "pets").config(environment={})
    assert (config.model.weights, config.is_frozen, config.train.loss) == (weights, True, "balanced_softmax")
    assert summary.estimate.disk_bytes == 6 * 512 * 4 and config.data.image_size is None


def test_weights_that_are_not_here_are_not_fetched(images, no_network):
    summary = init(images / "pets", options(images, backbone="torchvision:resnet50"), PLAIN)
    assert summary.feature_check == LATER and summary.estimate is None
    assert Project.open(images / "pets").config(environment={}).model.weights == "DEFAULT"


def test_files_of_a_model_are_written_by_their_whole_path(images, weights, monkeypatch):
    monkeypatch.chdir(images)
    (images / "own.safetensors").write_bytes(Path(weights).read_bytes())
    init(images / "pets", options(images, backbone="resnet10", weights="own.safetensors"), PLAIN)
    assert Project.open(images / "pets").config(environment={}).model.weights == str(images / "own.safetensors")


@pytest.mark.parametrize(
    ("backbone", "weights", "said"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V7", "not known for resnet50"),
        ("torchvision:resnet50", "gone.safetensors", "there is no such file"),
        ("gone.pt2", "DEFAULT", "there is no such file"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_before_a_file_is_read(images, backbone, weights, said):
    with pytest.raises((ConfigError, MissingWeights), match=said):
        init(images / "pets", options(images, backbone=backbone, weights=weights), PLAIN)
    assert not (images / "pets").exists()


def test_an_init_that_fails_on_its_model_keeps_no_params_with_it(images, weights, monkeypatch):
    """So that the corrected command is not about the model that was wrong."""

    def unfit(*args):
        raise ConfigError("not those of resnet10")

    monkeypatch.setattr("fkal.labeling.init.features_checked", unfit)
    chosen = options(images, backbone="resnet10", weights=weights)
    with pytest.raises(ConfigError, match="not those of"):
        init(images / "pets", chosen, PLAIN)
    assert not (images / "pets" / "params.yaml").exists()
    monkeypatch.undo()
    init(images / "pets", chosen, PLAIN)
    monkeypatch.setattr("fkal.labeling.init.features_checked", unfit)
    with pytest.raises(ConfigError, match="not those of"):
        init(images / "pets", chosen, PLAIN)
    assert (images / "pets" / "params.yaml").exists()


def test_another_model_than_that_of_the_params_is_refused_where_it_is_named(images, weights):
    chosen = options(images, backbone="resnet10", weights=weights)
    init(images / "pets", chosen, PLAIN)
    init(images / "pets", replace(chosen, model_is_named=True), PLAIN)
    for other in (
        replace(chosen, backbone="resnet18"),
        replace(chosen, weights="DEFAULT", backbone="torchvision:resnet18"),
        replace(chosen, backbone=None),
    ):
        with pytest.raises(ConfigError, match=r"with model\.name resnet10 .*leave --backbone and --weights out"):
            init(images / "pets", replace(other, model_is_named=True), PLAIN)
        init(images / "pets", other, PLAIN)  # a suggestion that was not taken


@pytest.mark.parametrize(
    ("other", "key"), [({"groups": r"(\d+)_"}, r"data\.groups null"), ({"name": "cats"}, r"project\.name 'pets'")]
)
def test_groups_and_a_name_that_a_project_has_not_are_refused(images, other, key):
    chosen = options(images)
    init(images / "pets", chosen, PLAIN)
    before = contents(images / "pets")
    with pytest.raises(ConfigError, match=key):
        init(images / "pets", replace(chosen, **other), PLAIN)
    assert contents(images / "pets") == before
    init(images / "pets", replace(chosen, name="pets"), PLAIN)


def test_names_that_seem_to_say_groups_are_said_until_groups_are_known(images):
    for track in range(12):
        for frame in range(3):
            picture(images / "video" / f"{track:03}_{frame:02}.png", 3 * track + frame, side=9)
    chosen = options(images, pools=("video",))
    seeming = init(images / "pets", chosen, PLAIN).seeming_groups
    assert seeming is not None and (seeming.n, len(seeming.example)) == (12, 3)
    assert init(images / "grouped", replace(chosen, groups=seeming.pattern), PLAIN).seeming_groups is None
    assert init(images / "other", options(images), PLAIN).seeming_groups is None


@pytest.fixture
def no_network(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.create_connection", refused)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_folder_that_is_called_as_a_status_is_refused_and_leaves_no_list(images, part):
    picture(images / part / "undone" / "a.png", 77)
    with pytest.raises(ConfigError, match=r"class 'undone': is the name of a status.*name the class otherwise"):
        init(images / "pets", options(images), PLAIN)
    assert not list((images / "pets").glob("*.parquet"))


def test_labels_of_a_class_that_is_called_as_a_status_are_refused(images):
    picture(images / "given" / "skipped" / "a.png", 78)
    with pytest.raises(ConfigError, match="class 'skipped': is the name of a status"):
        init(images / "pets", options(images, labeled=("given",)), PLAIN)
    assert not (images / "pets" / "labels.csv").exists()
