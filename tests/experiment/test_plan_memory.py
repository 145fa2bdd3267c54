"""Plans that are remembered: found again as long as nothing that they depend on is another."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fkal.config.layers import from_assignments, load, merged, preset
from fkal.config.schema import Config
from fkal.data.file_digests import SETTLED_NS
from fkal.experiment import plan_memory
from fkal.experiment.plan_memory import PlanMemory, RememberedPlan

PLAN = RememberedPlan("0123456789abcdef" * 2, rounds=3, budget=20, notes=("bolts: left out: 2 not images",))


def digits(*assignments: str) -> Config:
    return load(preset("digits"), assignments=assignments, environment={})


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """An own tree whose files are old enough that a later change shows."""
    folder = tmp_path / "bolts"
    for part in ("train", "test"):
        for label in ("bad", "good"):
            path = folder / part / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    later = time.time_ns() + 2 * SETTLED_NS
    monkeypatch.setattr("fkal.data.sources.time.time_ns", lambda: later)
    return folder


def own(tree: Path) -> Config:
    return load(preset("folder"), assignments=[f"data.folder={tree}"], environment={})


def kept(folder: Path, config: Config) -> PlanMemory:
    PlanMemory(folder).keep([(config, PLAN)])
    return PlanMemory(folder)


def test_what_was_kept_comes_back_for_the_same_settings_alone(tmp_path):
    memory = kept(tmp_path, digits())
    assert memory.of(digits()) == PLAN
    for other in ("seed=1", "train.lr=0.02", "acquisition.rounds=2", "bias.ratio=3", "threads=2", "device=cpu"):
        assert memory.of(digits(other)) is None, other


def test_changed_images_are_others(tmp_path, tree):
    kept(tmp_path / "plans", own(tree))
    assert PlanMemory(tmp_path / "plans").of(own(tree)) == PLAN
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tree / "train" / "good" / "0.png")
    assert PlanMemory(tmp_path / "plans").of(own(tree)) is None


def test_images_that_were_changed_a_moment_ago_are_not_remembered(tmp_path, tree, monkeypatch):
    """They could be changed again and keep their times."""
    changed = (tree / "train" / "good" / "0.png").stat().st_ctime_ns
    monkeypatch.setattr("fkal.data.sources.time.time_ns", lambda: changed + SETTLED_NS - 1)
    assert kept(tmp_path / "plans", own(tree)).of(own(tree)) is None
    assert not list((tmp_path / "plans").glob("*.json"))


@pytest.mark.parametrize("name", plan_memory.VARIABLES)
def test_variables_that_decide_on_threads_and_devices_are_in_the_key(tmp_path, monkeypatch, name):
    memory = kept(tmp_path, digits())
    before = memory.key(digits())
    monkeypatch.setenv(name, f"{os.environ.get(name, '')}1")
    assert PlanMemory(tmp_path).key(digits()) != before


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("_program", lambda: [["fkal/changed.py", 1, 1]]),
        ("_version", lambda library: "0.0"),
        ("_machine", lambda: {"processors": [0, 1, 2, 3, 4, 5, 6, 7, 8]}),
    ],
)
def test_another_program_library_or_machine_is_asked_anew(tmp_path, monkeypatch, part, value):
    kept(tmp_path, digits())
    monkeypatch.setattr(plan_memory, part, value)
    assert PlanMemory(tmp_path).of(digits()) is None


@pytest.mark.parametrize(
    "assignments",
    [
        ["model.name=torchvision:resnet18", "model.weights=DEFAULT", "train.layers=frozen"],
        ["model.name=mine.pt2", "train.layers=frozen"],
    ],
)
def test_what_cannot_be_seen_without_torch_has_no_key(tmp_path, assignments):
    config = merged([from_assignments(["data.name=digits", *assignments])])
    assert PlanMemory(tmp_path).key(config) is None
    assert kept(tmp_path, config).of(config) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({"format": "fkal-plan-1", "fingerprint": "../../x"}).encode(),
        json.dumps({"format": "fkal-plan-1", **PLAN._asdict(), "digest": "0" * 32}).encode(),
    ],
)
def test_a_damaged_memory_is_as_good_as_none(tmp_path, content):
    memory = kept(tmp_path, digits())
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(content)
    assert memory.of(digits()) is None


def test_a_changed_figure_is_noticed(tmp_path):
    memory = kept(tmp_path, digits())
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(path.read_bytes().replace(b'"rounds": 3', b'"rounds": 4'))
    assert memory.of(digits()) is None


def test_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_memory, "MOST_PLANS", 2)
    configs = [digits(f"seed={seed}") for seed in range(3)]
    for seconds, config in enumerate(configs):
        memory = kept(tmp_path, config)
        os.utime(tmp_path / f"{memory.key(config)}.json", (seconds, seconds))
    PlanMemory(tmp_path).keep([])
    assert [PlanMemory(tmp_path).of(config) for config in configs] == [None, PLAN, PLAN]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "plans").write_text("")
    assert kept(tmp_path / "plans", digits()).of(digits()) is None
