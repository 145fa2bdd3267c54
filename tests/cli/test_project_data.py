"""`fkal init`, `fkal val` and `fkal pool` as a user gives them."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fkal.cli import progress
from fkal.cli.listing import suggested_backbone
from fkal.cli.main import app
from fkal.cli.progress import PhaseLines
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
