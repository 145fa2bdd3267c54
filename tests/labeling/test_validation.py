"""The validation set of a project: labeled first as a random sample, and images that join it."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from fkal.errors import ConfigError
from fkal.labeling.batch import all_batches
from fkal.labeling.init import InitOptions, init
from fkal.labeling.label_store import LabelRow, LabelStore, last_action
from fkal.labeling.project import Project
from fkal.labeling.rounds import SelectOptions, select
from fkal.labeling.validation import (
    add_validation,
    adopt_validation,
    start_validation,
    with_validation,
    withdraw_validation,
)
from fkal.notify import PLAIN


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6, 3), seed, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Twelve images in four groups, and no validation set."""
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    for n in range(12):
        picture(tmp_path / "pool" / f"{n // 3}_{n}.png", 10 * n)
    init(tmp_path / "pets", InitOptions((str(tmp_path / "pool"),), groups=r"(\d)_"), PLAIN)
    return Project.open(tmp_path / "pets")


def start(project, n=4, seed=0):
    return start_validation(project.reread(), n, PLAIN, seed=seed, workers=0)


def answer(project, batch, labels, *, source="import", time="2026-01-01T00:00:00+00:00"):
    LabelStore(project.folder).append(
        [
            LabelRow(image.path, image.digest, label, batch=batch.name, source=source, time=time)
            for image, label in zip(batch.images, labels, strict=True)
        ]
    )


def add(project, *files, label=None):
    return add_validation(project.reread(), list(map(str, files)), PLAIN, label=label, drop_leaks=False, workers=0)


def test_a_random_sample_has_one_image_per_group_and_follows_the_seed(pets):
    batch = start(pets).batch
    assert sorted(image.path[0] for image in batch.images) == ["0", "1", "2", "3"]
    assert (batch.request.kind, batch.name, batch.request.pool_digest) == ("validation", "r00", pets.pool.digest)
    withdraw_validation(pets)
    other = start(pets, 5, seed=1).batch
    assert other.name == "r00-2" and not {i.path for i in other.images} & {i.path for i in batch.images}


def test_the_same_call_returns_the_open_batch_and_another_is_refused(pets):
    first = start(pets)
    again = start(pets)
    assert (first.was_there, again.was_there) == (False, True) and again.batch == first.batch
    with pytest.raises(ConfigError, match=r"batch r00 \(validation, 4 images\) is open .*--cancel"):
        start(pets, 5)
    assert withdraw_validation(pets).request.withdrawn
    with pytest.raises(ConfigError, match="no validation batch is open"):
        withdraw_validation(pets)
    with pytest.raises(ConfigError, match="-n 9: the pool has 8 images that nobody was asked about"):
        start(pets, 9)


def test_labeled_images_become_the_validation_set_and_leave_the_pool_with_their_groups(pets):
    batch = start(pets, 2).batch
    assert adopt_validation(pets) == 0
    pets.add_classes(["cat", "dog"])
    answer(pets, batch, ["cat", "dog"])
    assert adopt_validation(pets.reread()) == 2 and adopt_validation(Project.open(pets.folder)) == 0
    project = Project.open(pets.folder)
    found = project.dataset()
    assert list(project.validation.labels) == ["cat", "dog"] and found.validation.tolist() == [12, 13]
    groups = {image.path[0] for image in batch.images}
    assert [project.pool.paths[row][0] in groups for row in found.pool] == [False] * 6
    assert found.train.pixels(found.validation[:1]).equal(found.train.pixels(found.pool[:1])) is False


def test_corrected_labels_are_corrected_and_undone_ones_leave(pets):
    batch = start(pets, 2).batch
    pets.add_classes(["cat", "dog"])
    answer(pets, batch, ["cat", "dog"])
    adopt_validation(pets.reread())
    answer(pets, batch, ["dog", "dog"], source="second", time="2026-01-02T00:00:00+00:00")
    adopt_validation(Project.open(pets.folder))
    assert list(Project.open(pets.folder).validation.labels) == ["dog", "dog"]
    row = LabelRow(batch.images[0].path, batch.images[0].digest, "", "none_of_these", source="third")
    LabelStore(pets.folder).append([row])
    adopt_validation(Project.open(pets.folder))
    assert [image.digest for image in Project.open(pets.folder).validation] == [batch.images[1].digest]


def test_labels_that_were_taken_back_leave_though_their_batch_is_open_again(pets):
    batch = start(pets, 3).batch
    pets.add_classes(["cat", "dog"])
    answer(pets, batch, ["cat", "dog", "dog"])
    adopt_validation(pets.reread())
    LabelStore(pets.folder).undo(last_action, time="2026-01-02T00:00:00+00:00")
    adopt_validation(Project.open(pets.folder))
    assert not len(Project.open(pets.folder).validation)
    rows = [LabelRow(image.path, image.digest, "cat", batch=batch.name, source="x") for image in batch.images[:1]]
    LabelStore(pets.folder).append(rows)
    assert adopt_validation(Project.open(pets.folder)) == 0, "a batch that is not labeled whole waits"
    withdraw_validation(Project.open(pets.folder))
    assert adopt_validation(Project.open(pets.folder)) == 0


def test_a_path_that_two_places_of_the_pool_have_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    for place, shade in (("cam1", 10), ("cam2", 20)):
        for n in range(4):
            picture(tmp_path / place / f"{n}.png", shade + n)
    init(tmp_path / "cams", InitOptions((str(tmp_path / "cam1"), str(tmp_path / "cam2"))), PLAIN)
    project = Project.open(tmp_path / "cams")
    (tmp_path / "some.csv").write_text("path,label\n3.png,dog\n")
    with pytest.raises(ConfigError, match=r"some\.csv: '3\.png': images of several places .* give the whole path"):
        add(project, tmp_path / "some.csv")
    (tmp_path / "some.csv").write_text(f"path,label\n{tmp_path / 'cam2' / '3.png'},dog\n")
    assert add(project, tmp_path / "some.csv").added == 1
    (image,) = Project.open(project.folder).validation
    assert image.digest == hashlib.sha256((tmp_path / "cam2" / "3.png").read_bytes()).hexdigest()


def test_a_label_of_an_unknown_class_is_refused(pets):
    answer(pets, start(pets, 1).batch, ["cat"])
    with pytest.raises(ConfigError, match=r"class 'cat' .* is not in classes.txt"):
        adopt_validation(pets)


def test_images_of_the_pool_join_by_their_file_or_by_a_list_of_paths(pets, tmp_path):
    add(pets, tmp_path / "pool" / "0_1.png", label="cat")
    (tmp_path / "wrong.csv").write_text("path,label\n1_4.png,dog\n2_7.png,dog\n")
    assert add(pets, tmp_path / "wrong.csv").added == 2
    assert add(Project.open(pets.folder), tmp_path / "wrong.csv").added == 0
    project = Project.open(pets.folder)
    assert [(image.path, image.label, image.group) for image in project.validation] == [
        ("0_1.png", "cat", "0"),
        ("1_4.png", "dog", "1"),
        ("2_7.png", "dog", "2"),
    ]
    assert project.settings.validation == (str(tmp_path / "pool"),) and project.classes == ("cat", "dog")
    assert project.dataset().pool.tolist() == [9, 10, 11]


def test_folders_and_new_files_join(pets, tmp_path):
    picture(tmp_path / "val" / "owl" / "x.png", 250)
    picture(tmp_path / "photos" / "y.png", 251)
    add(pets, tmp_path / "val")
    add(Project.open(pets.folder), tmp_path / "photos" / "y.png", label="cat")
    project = Project.open(pets.folder)
    assert [(image.path, image.root, image.label) for image in project.validation] == [
        ("owl/x.png", 0, "owl"),
        ("y.png", 1, "cat"),
    ]
    assert project.dataset().validation.tolist() == [12, 13] and project.classes == ("owl", "cat")


def test_what_cannot_join_changes_nothing(pets, tmp_path):
    before = pets.params_path.read_bytes()
    for files, label, message in (
        ([tmp_path / "pool" / "0_1.png"], None, "needs its class"),
        ([tmp_path / "pool"], "cat", "name the classes themselves"),
        ([tmp_path / "pool" / "0_1.png"], " cat", "without spaces"),
        ([tmp_path / "none.png"], "cat", "no such file"),
        ([tmp_path / "pool"], None, "no class folders"),
    ):
        with pytest.raises((ConfigError, FileNotFoundError), match=message):
            add(pets, *files, label=label)
    assert pets.params_path.read_bytes() == before and not len(pets.reread().validation)


def test_a_withdrawn_batch_is_not_adopted(pets):
    batch = start(pets, 2).batch
    pets.add_classes(["cat"])
    answer(pets, batch, ["cat", "cat"])
    all_batches(pets.rounds_path)[0].withdraw()
    assert adopt_validation(pets) == 0


def test_select_and_train_take_in_a_labeled_validation_batch(pets):
    batch = start(pets, 3).batch
    pets.add_classes(["cat", "dog"])
    answer(pets, batch, ["cat", "dog", "cat"])
    project = with_validation(pets)
    assert list(project.validation.labels) == ["cat", "dog", "cat"] and project.settings.validation
    options = SelectOptions(
        n=2, method="random", assignments=("pretrain.task=none", "acquisition.budget=2", "acquisition.rounds=1")
    )
    asked = select(project, options).batch
    assert not {image.digest for image in asked.images} & {image.digest for image in batch.images}
    assert asked.request.validation_digest == project.validation.digest


def test_a_label_that_is_given_again_corrects_the_one_that_is_listed(pets, tmp_path, capsys):
    one, two = (picture(tmp_path / "more" / f"{n}.png", 200 + n) for n in range(2))
    add(pets, one, two, label="cat")
    capsys.readouterr()
    summary = add(pets, one, label="dog")
    assert list(pets.reread().validation.labels) == ["dog", "cat"] and not summary.set_aside
    assert "0.png: its label is dog now, and was cat" in capsys.readouterr().err
    assert pets.reread().classes == ("cat", "dog")


def test_a_corrected_label_may_be_of_a_new_class(pets, tmp_path):
    one = picture(tmp_path / "more" / "0.png", 200)
    add(pets, one, label="cat")
    add(pets, one, label="owl")
    again = pets.reread()
    assert list(again.validation.labels) == ["owl"] and again.classes == ("cat", "owl")
