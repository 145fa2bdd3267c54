"""The images of a project as a dataset, and files that moved, changed or vanished between rounds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fkal.data.errors import MissingData
from fkal.data.images import UNLABELED, FolderImages, TensorImages
from fkal.errors import ConfigError
from fkal.labeling.init import InitOptions, init
from fkal.labeling.project import Project
from fkal.labeling.quarantine import read_quarantine
from fkal.notify import PLAIN


def picture(path, seed, *, side=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), seed, dtype=np.uint8)).save(path)
    return path


def noise(path, *, seed, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Five images in the pool, of grey 0, 10, ..., and two in validation."""
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    pictures(tmp_path, 5)
    init(tmp_path / "pets", options(tmp_path), PLAIN)
    return Project.open(tmp_path / "pets")


def pictures(folder, n):
    for number in range(n):
        picture(folder / "pool" / f"{number}.png", 10 * number)
    picture(folder / "val" / "cat" / "a.png", 200)
    picture(folder / "val" / "dog" / "b.png", 210)


def options(folder, **others):
    return InitOptions(pools=(str(folder / "pool"),), validation=(str(folder / "val"),), **others)


def aside(project):
    return {row.path: row.flaw for row in read_quarantine(project.quarantine_path)}


def grey(images, index):
    return int(images.pixels(torch.tensor([index])).float().mean())


def test_index_order_is_that_of_the_lists_with_validation_behind_the_pool(pets):
    found = pets.dataset()
    assert found.name == "pets" and found.classes == ("cat", "dog") and found.train.shape == (3, 12, 12)
    assert found.pool.tolist() == [0, 1, 2, 3, 4] and found.validation.tolist() == [5, 6] and len(found.test) == 0
    assert found.train.labels.tolist() == [UNLABELED] * 5 + [0, 1]
    assert [grey(found.train, index) for index in range(7)] == [0, 10, 20, 30, 40, 200, 210]
    assert isinstance(found.train, TensorImages) and found.train.names[5] == "cat/a.png" and found.groups is None


def test_given_labels_are_those_of_their_images_and_change_no_digest(pets):
    digest = pets.pool.digests[3]
    found = pets.dataset(labels={digest: "dog"})
    assert found.train.labels.tolist() == [-1, -1, -1, 1, -1, 0, 1] and found.digest == pets.dataset().digest
    with pytest.raises(ConfigError, match=r"labels.csv: class 'dgo' is not in classes.txt; did you mean 'dog'"):
        pets.dataset(labels={digest: "dgo"})


def test_an_image_that_is_validated_leaves_the_pool_with_its_group(tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    for n in range(6):
        picture(tmp_path / "pool" / f"{n // 2}_{n}.png", 10 * n)
    picture(tmp_path / "val" / "cat" / "1_a.png", 200)
    picture(tmp_path / "val" / "dog" / "7_b.png", 210)
    init(tmp_path / "pets", options(tmp_path, groups=r"(\d)_"), PLAIN)
    found = Project.open(tmp_path / "pets").dataset()
    assert found.pool.tolist() == [0, 1, 4, 5]
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2, 1, 3]


def test_a_moved_file_is_found_by_its_digest(pets, tmp_path):
    before = pets.dataset()
    (tmp_path / "pool" / "deep").mkdir()
    (tmp_path / "pool" / "1.png").rename(tmp_path / "pool" / "deep" / "new name.png")
    after = pets.reread().dataset()
    assert after.pool.tolist() == before.pool.tolist() and grey(after.train, 1) == 10 and after.digest == before.digest
    assert pets.reread().pool[1].path == "deep/new name.png" and aside(pets) == {}


def test_a_copy_stands_in_for_a_file_that_vanished(tmp_path, pets):
    shutil.copy(tmp_path / "pool" / "1.png", tmp_path / "pool" / "z.png")
    init(pets.folder, options(tmp_path), PLAIN)
    (tmp_path / "pool" / "1.png").unlink()
    assert pets.reread().dataset().pool.tolist() == [0, 1, 2, 3, 4]
    assert (pets.reread().pool[1].path, pets.reread().pool[1].duplicates) == ("z.png", ())


def test_a_vanished_file_is_set_aside_and_comes_back(pets, tmp_path, capsys):
    (tmp_path / "pool" / "2.png").rename(tmp_path / "2.png")
    found = pets.dataset()
    assert found.pool.tolist() == [0, 1, 3, 4] and len(found.train) == 7 and aside(pets) == {"2.png": "missing"}
    assert "1 pool images cannot be used now" in capsys.readouterr().err
    (tmp_path / "2.png").rename(tmp_path / "pool" / "2.png")
    assert pets.reread().dataset().pool.tolist() == [0, 1, 2, 3, 4] and aside(pets) == {}


def test_a_changed_file_is_set_aside(pets, tmp_path):
    picture(tmp_path / "pool" / "2.png", 99)
    picture(tmp_path / "val" / "dog" / "b.png", 98)
    found = pets.dataset()
    assert found.pool.tolist() == [0, 1, 3, 4] and found.validation.tolist() == [5]
    assert aside(pets) == {"2.png": "changed", "dog/b.png": "changed"}


def test_a_changed_file_that_is_scanned_again_is_a_new_image(pets, tmp_path):
    picture(tmp_path / "pool" / "2.png", 99)
    init(pets.folder, options(tmp_path), PLAIN)
    found = pets.reread().dataset()
    assert found.pool.tolist() == [0, 1, 3, 4, 5] and grey(found.train, 5) == 99


def test_a_file_that_broke_is_set_aside_with_the_decoders_reason(pets, tmp_path):
    (tmp_path / "pool" / "0.png").write_bytes(b"")
    assert pets.dataset().pool.tolist() == [1, 2, 3, 4] and aside(pets) == {"0.png": "empty"}


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_a_place_that_is_gone_stops_the_command(pets, tmp_path, is_mount_point):
    shutil.rmtree(tmp_path / "pool")
    if is_mount_point:
        (tmp_path / "pool").mkdir()
    with pytest.raises(MissingData, match="mount or restore it"):
        pets.dataset()
    assert aside(pets) == {}


def test_images_that_are_too_many_for_memory_are_streamed_with_the_same_digest(pets, monkeypatch):
    in_memory = pets.dataset()
    monkeypatch.setattr("fkal.data.listed.IN_MEMORY", 0)
    streamed = pets.dataset()
    assert isinstance(streamed.train, FolderImages) and streamed.digest == in_memory.digest
    assert [grey(streamed.train, index) for index in (1, 6)] == [10, 210]
    (batch,) = streamed.train.batches([torch.tensor([4, 5])], device="cpu")
    assert batch.shape == (2, 3, 12, 12)


def test_streamed_images_show_what_those_in_memory_show_and_a_vanished_one_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    for n in range(4):
        noise(tmp_path / "pool" / f"{n}.png", seed=n, width=20 + n, height=12)
        noise(tmp_path / "val" / ("cat", "dog")[n % 2] / f"{n}.png", seed=10 + n, width=9, height=14)
    init(tmp_path / "pets", options(tmp_path), PLAIN)
    (tmp_path / "pool" / "2.png").unlink()
    held = Project.open(tmp_path / "pets").dataset().train
    monkeypatch.setattr("fkal.data.listed.IN_MEMORY", 0)
    found = Project.open(tmp_path / "pets").dataset()
    rows = torch.tensor([0, 1, 3, 5, 7])
    assert found.pool.tolist() == [0, 1, 3] and isinstance(found.train, FolderImages)
    assert torch.equal(found.train.pixels(rows), held.pixels(rows))
    assert found.train.content_ids(rows).unique(dim=0).shape == (5, 16)


def test_all_parts_are_streamed_where_one_of_them_is_too_large(signs, monkeypatch):
    made = signs(n=12, test=30)
    monkeypatch.setattr("fkal.data.listed.IN_MEMORY", 40 * 3 * 16 * 16)
    found = made.project.dataset()
    assert isinstance(found.train, FolderImages) and isinstance(found.test, FolderImages)


def test_a_rule_of_groups_that_changed_is_applied_to_listed_images(pets):
    text = pets.params_path.read_text()
    pets.params_path.write_text(text.replace("  workers: 2", '  groups: "([0-9])[.]png"\n  workers: 0'))
    found = Project.open(pets.folder).dataset()
    assert found.groups.tolist()[:5] == [0, 1, 2, 3, 4] and Project.open(pets.folder).pool[2].group == "2"


def test_a_rule_of_groups_that_is_taken_back_leaves_no_group(pets):
    text = pets.params_path.read_text()
    pets.params_path.write_text(text.replace("  workers: 2", '  groups: "[.](png)"\n  workers: 0'))
    assert len(Project.open(pets.folder).dataset().pool) == 0  # all are of the validation images' group
    pets.params_path.write_text(text)
    found = Project.open(pets.folder).dataset()
    assert found.groups is None and found.pool.tolist() == [0, 1, 2, 3, 4]


def test_groups_of_a_manifest_come_back_when_a_rule_is_taken_back(tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    pictures(tmp_path, 4)
    manifest = tmp_path / "pool" / "metadata.csv"
    manifest.write_text("file_name,group,day\n" + "".join(f"{n}.png,g{n // 2},d{n}\n" for n in range(4)))
    init(tmp_path / "pets", options(tmp_path), PLAIN)
    pets = Project.open(tmp_path / "pets")

    def groups(setting):
        text = pets.params_path.read_text()
        pets.params_path.write_text(text.replace("data:\n", f"data:\n  groups: {setting}\n"))
        Project.open(pets.folder).dataset()
        pets.params_path.write_text(text)
        return list(Project.open(pets.folder).pool.groups)

    assert list(pets.pool.groups) == ["g0", "g0", "g1", "g1"]
    assert groups("'([0-9])'") == ["0", "1", "2", "3"]
    assert groups("null") == ["g0", "g0", "g1", "g1"]
    with monkeypatch.context() as patch:
        patch.setattr("fkal.labeling.checking.manifest_entries", None)  # the same rule as before needs no manifest
        assert Project.open(pets.folder).dataset().groups.tolist() == [0, 0, 1, 1, 2, 3]
    manifest.rename(tmp_path / "gone.csv")
    assert groups("null") == ["g0", "g0", "g1", "g1"]
    assert groups("'([0-9])'") == ["0", "1", "2", "3"]
    assert groups("null") == [None] * 4


def test_a_validation_image_that_moves_to_another_class_has_its_label(pets, tmp_path, capsys):
    (tmp_path / "val" / "cat" / "a.png").rename(tmp_path / "val" / "dog" / "a.png")
    found = pets.dataset()
    assert found.train.labels.tolist()[-2:] == [1, 1] and pets.reread().validation[0].path == "dog/a.png"
    assert "dog/a.png: its label is dog now, and was cat" in capsys.readouterr().err
    (tmp_path / "val" / "dog" / "a.png").rename(tmp_path / "val" / "elsewhere.png")
    assert pets.reread().dataset().train.labels.tolist()[-2:] == [1, 1]
    assert "its label" not in capsys.readouterr().err


def test_places_inside_the_project_move_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FKAL_DATA__WORKERS", "0")
    picture(tmp_path / "pets" / "images" / "a.png", 1)
    init(tmp_path / "pets", InitOptions(pools=(str(tmp_path / "pets" / "images"),)), PLAIN)
    (tmp_path / "pets").rename(tmp_path / "moved")
    project = Project.open(tmp_path / "moved")
    assert project.settings.pools == ("images",) and project.dataset().pool.tolist() == [0]
    assert Path(project.location("pool", project.pool[0])).is_file()
