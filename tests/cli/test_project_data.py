"""`fkal init`, `fkal val` and `fkal pool` as a user gives them."""

import errno
import json
import os

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fkal.cli import progress
from fkal.cli.listing import suggested_backbone
from fkal.cli.main import app
from fkal.cli.progress import PhaseLines
from fkal.labeling import listing, manifest
from fkal.labeling.file_facts import Reading


@pytest.fixture
def fkal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return done

    return run


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), seed, dtype=np.uint8)).save(path)


@pytest.fixture
def images(tmp_path):
    for n in range(5):
        picture(tmp_path / "pool" / f"{n}.png", n)
    picture(tmp_path / "val" / "cat" / "a.png", 100)
    picture(tmp_path / "val" / "dog" / "b.png", 101)
    (tmp_path / "pool" / "broken.jpg").write_bytes(b"")
    return tmp_path


def test_init_says_what_it_found_and_what_comes_next(fkal, images):
    out = fkal("init", "pets", "--pool", "pool", "--val", "val").stdout
    assert "pool: 5 images of 6 files (5 PNG, 0.0 MB)" in out
    assert "1 set aside in quarantine.csv: 1 empty" in out
    assert "too few validation images (below 10): cat (1), dog (1); add some: fkal val add PATH" in out
    assert out.endswith("next: cd pets && fkal select\n")
    facts = json.loads(fkal("init", "pets", "--pool", "pool", "--val", "val", "--json").stdout)
    assert facts["classes"] == ["cat", "dog"] and [part["added"] for part in facts["parts"]] == [0, 0]


def test_without_validation_images_a_sample_is_labeled_first(fkal, images, monkeypatch):
    assert fkal("init", "pets", "--pool", "pool").stdout.endswith("next: cd pets && fkal val start -n 200\n")
    monkeypatch.chdir(images / "pets")
    assert "batch r00 written: 3 random images" in fkal("val", "start", "-n", "3").stdout
    assert "batch r00 is open: 3 random images" in fkal("val", "start", "-n", "3").stdout
    assert "error: batch r00 (validation, 3 images) is open" in fkal("val", "start", "-n", "4", code=2).stderr
    assert fkal("val", "start", "--cancel").stdout == "batch r00 is withdrawn; its labels stay\n"


def test_pool_and_validation_grow(fkal, images, monkeypatch):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    picture(images / "more" / "x.png", 50)
    added = json.loads(fkal("pool", "add", "more", "--project", "pets", "--json").stdout)
    assert (added["added"], added["listed"]) == (1, 6)
    assert "0 images are new" in fkal("pool", "add", "more", "--project", "pets").stdout
    monkeypatch.chdir(images / "pets")
    assert "1 images are new" in fkal("val", "add", str(images / "pool" / "3.png"), "--label", "cat").stdout
    picture(images / "even more" / "copy.png", 100)
    assert "--drop-leaks" in fkal("pool", "add", str(images / "even more"), code=2).stderr
    assert "even more" not in (images / "pets" / "params.yaml").read_text()


def test_validation_images_get_no_label_that_is_the_name_of_a_status(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    before = (images / "pets" / "params.yaml").read_bytes(), (images / "pets" / "classes.txt").read_bytes()
    told = fkal("val", "add", "pool/3.png", "--label", "skipped", "--project", "pets", code=2).stderr
    assert "--label 'skipped': is the name of a status of labels" in told
    assert ((images / "pets" / "params.yaml").read_bytes(), (images / "pets" / "classes.txt").read_bytes()) == before


def test_exit_codes_tell_a_wrong_call_from_missing_images(fkal, images):
    assert "no such folder or file" in fkal("init", "pets", "--pool", "nowhere", code=4).stderr
    assert "fkal init DIR --pool" in fkal("val", "start", code=2).stderr
    (images / "notes.md").write_text("")
    assert "neither a folder nor a manifest" in fkal("init", "pets", "--pool", "notes.md", code=2).stderr


def test_progress_without_a_terminal_is_a_line_every_half_minute(monkeypatch):
    lines, times = [], iter([0, 0, 10, 31, 40, 62, 70])
    monkeypatch.setattr(progress, "say", lines.append)
    shown = PhaseLines("images", clock=lambda: next(times))
    for done in (0, 100, 310, 400, 620, 1000):
        shown.show(Reading("reading pool", done, 1000))
    assert lines == [
        "reading pool: 310 of 1,000 files, 1 min left",
        "reading pool: 620 of 1,000 files, 38 s left",
    ]


def test_without_a_backbone_named_a_pretrained_one_is_taken_and_nothing_is_downloaded(fkal, images):
    out = fkal("init", "pets", "--pool", "pool", "--val", "val").stdout
    assert "feature check: comes with the first fkal select, which fetches the weights" in out
    chosen = yaml.safe_load((images / "pets" / "params.yaml").read_text())
    assert chosen["model"] == {"name": suggested_backbone(), "weights": "DEFAULT"}
    assert chosen["train"]["layers"] == "frozen" and chosen["acquisition"]["pseudo_label"] == "joint_shift_grid"


def test_a_network_that_learns_from_scratch_is_asked_for_by_none(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val", "--backbone", "none")
    chosen = yaml.safe_load((images / "pets" / "params.yaml").read_text())
    assert chosen["model"] == {"name": "resnet10"} and chosen["pretrain"]["task"] == "rotation"


def test_weights_without_a_backbone_to_take_them_are_refused(fkal, images):
    refused = fkal("init", "pets", "--pool", "pool", "--val", "val", "--backbone", "none", "--weights", "w.pt", code=2)
    assert "--backbone none takes none" in refused.stderr and not (images / "pets").exists()


def test_a_place_without_a_usable_image_is_refused_and_not_kept(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    params = (images / "pets" / "params.yaml").read_text()
    (images / "empty" / "cat").mkdir(parents=True)
    (images / "header.csv").write_text("path,label\n")
    (images / "gone.csv").write_text("path,label\nnosuch.png,cat\n")
    for place in ("empty", "header.csv"):
        assert "it lists no image" in fkal("val", "add", place, "--project", "pets", code=2).stderr
    assert "it lists no image" in fkal("pool", "add", "header.csv", "--project", "pets", code=2).stderr
    for part in ("val", "pool"):
        assert "none of 1 images can be used" in fkal(part, "add", "gone.csv", "--project", "pets", code=2).stderr
    assert (images / "pets" / "params.yaml").read_text() == params


def test_a_listed_image_keeps_its_label_and_another_one_is_said(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    picture(images / "more" / "dog" / "a.png", 100)
    picture(images / "more" / "dog" / "new.png", 77)
    out = fkal("val", "add", "more", "--project", "pets").stdout
    assert "1 images are new" in out and "1 set aside in quarantine.csv: 1 contradiction" in out
    assert "listed with the label cat" in (images / "pets" / "quarantine.csv").read_text()
    said = fkal("val", "add", "val/cat/a.png", "--label", "dog", "--project", "pets").stderr
    assert "cat/a.png: its label is dog now, and was cat" in said


def test_a_label_that_is_no_text_is_no_class(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    picture(images / "new.png", 77)
    for label in ('["cat"]', "true", '{"a": 1}'):
        (images / "m.jsonl").write_text(f'{{"path": "new.png", "label": {label}}}\n')
        assert "is no name; give a text" in fkal("val", "add", "m.jsonl", "--project", "pets", code=2).stderr
    assert (images / "pets" / "classes.txt").read_text() == "cat\ndog\n"


def test_the_folder_that_one_is_in_is_a_pool(fkal, images, monkeypatch):
    monkeypatch.chdir(images / "pool")
    assert "pool: 5 images of 6 files" in fkal("init", "../pets", "--pool", ".").stdout


def test_a_home_that_is_not_there_is_named(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    for words in (["val", "add"], ["pool", "add"], ["predict"]):
        told = fkal(*words, "~nosuch-user/x", "--project", "pets", code=2).stderr
        assert told == "error: '~nosuch-user/x': no such user's home; give the whole path\n"


def test_a_pipe_in_place_of_images_is_named(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    os.mkfifo(images / "m.csv")
    for words in (["val", "add"], ["pool", "add"], ["predict"]):
        assert "m.csv: is a pipe or a device" in fkal(*words, "m.csv", "--project", "pets", code=2).stderr


def test_a_list_of_classes_that_cannot_be_read_changes_nothing(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    picture(images / "more" / "owl" / "x.png", 50)
    (images / "pets" / "classes.txt").write_bytes(b"\xff\n")
    before = [(images / "pets" / name).read_bytes() for name in ("params.yaml", "validation.parquet")]
    assert "classes.txt: not UTF-8" in fkal("val", "add", "more", "--project", "pets", code=2).stderr
    assert [(images / "pets" / name).read_bytes() for name in ("params.yaml", "validation.parquet")] == before


def test_what_this_user_may_not_read_is_named_itself(fkal, images, monkeypatch):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    (images / "more").mkdir()

    def forbidden(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(manifest.Path, "is_file", lambda path: path.parent.name == "more" and forbidden(path))
        told = fkal("pool", "add", "more", "--project", "pets", code=1).stderr
    assert told.startswith("error: more: Permission denied; let this user read")
    monkeypatch.setattr(listing, "open_regular", forbidden)
    told = fkal("select", "--method", "random", "--project", "pets", code=2).stderr
    assert told.startswith("error: pets/pool.parquet: cannot be read: Permission denied; let this user read")


def test_a_folder_in_place_of_the_list_of_the_pool_is_named(fkal, images):
    fkal("init", "pets", "--pool", "pool", "--val", "val")
    (images / "pets" / "pool.parquet").unlink()
    (images / "pets" / "pool.parquet").mkdir()
    told = fkal("select", "--method", "random", "--project", "pets", code=2).stderr
    assert "pool.parquet: cannot be read: it is a folder, not a file" in told
