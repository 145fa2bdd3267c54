"""`fkal show` and `fkal compare`, as a user calls them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fkal.cli import show
from fkal.cli.main import app
from fkal.config.layers import Layer, from_file, merged, preset


def picked(scratch: Path, name: str) -> list[int]:
    """Raw indices of all rounds."""
    for folder in (scratch / "state").iterdir():
        if json.loads((folder / "about.json").read_text())["name"] == name:
            files = sorted(folder.glob("round-*.safetensors"))
            return [int(i) for file in files for i in load_file(file)["selection.indices"]]
    raise AssertionError(name)


def merged_small(holdout: int):
    return merged([from_file(preset("digits"), "digits"), Layer("small", {"holdout": holdout})])


def told(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def rounds(scratch) -> dict[str, list[dict]]:
    """Raw rounds by name."""
    return {
        json.loads((folder / "about.json").read_text())["name"]: [
            json.loads(path.read_text()) for path in sorted(folder.glob("round-*.json"))
        ]
        for folder in (scratch / "state").iterdir()
    }


def test_show_prints_the_curve_and_a_row_an_iteration(scratch, rounds):
    text = told("show", "digits-ir20-pfk_joint-s1", "--out", str(scratch))
    assert "accuracy, %" in text and text.count("●") == 5
    lines = [line.split() for line in text.splitlines()]
    for r in rounds["digits-ir20-pfk_joint-s1"]:
        shown = ("accuracy", "macro_accuracy", "minority_accuracy", "worst_class_accuracy")
        scores = [f"{100 * r['metrics'][f'test/{k}']:.2f}" for k in shown]
        passes = [f"{sum(r[f'{way}_images'].values()):,}" for way in ("forward", "backward")]
        seconds = f"{sum(r['seconds'].values()):.1f}"
        assert [str(r["b"]), str(r["labels_used"]), *scores, *passes, seconds] in lines
    before = 10 * [0]
    for r in rounds["digits-ir20-pfk_joint-s1"]:
        picked_now = [now - then for now, then in zip(r["labeled_counts"], before, strict=True)]
        before = r["labeled_counts"]
        assert [str(r["b"]), *map(str, picked_now)] in lines
    assert ["all", *map(str, rounds["digits-ir20-pfk_joint-s1"][-1]["labeled_counts"])] in lines
    assert told("show", "pfk_joint s1 digits ir20", "--out", str(scratch)) == text


def test_compare_prints_what_differs_and_which_images_both_picked(scratch, rounds):
    text = told("compare", "digits-ir20-random-s0", "digits-ir20-pfk_joint-s0", "--out", str(scratch))
    lines = [line.split() for line in text.splitlines()]
    assert ["acquisition.name", "random", "pfk"] in lines
    assert not any(line[:1] == ["train.lr"] for line in lines)
    names = "digits-ir20-random-s0", "digits-ir20-pfk_joint-s0"
    ours, theirs = (picked(scratch, name) for name in names)
    for i, labels in enumerate((20, 40, 60, 80)):
        a, b = (rounds[name][i]["metrics"] for name in names)
        kinds = ("accuracy", "macro_accuracy", "minority_accuracy")
        differences = (f"{100 * (a[f'test/{kind}'] - b[f'test/{kind}']):+.2f}" for kind in kinds)
        common = set(ours[:labels]) & set(theirs[:labels])
        accuracies = (f"{100 * each['test/accuracy']:.2f}" for each in (a, b))
        assert [str(labels), *accuracies, *differences, str(len(common))] in lines
    assert f"labeled by both: {len(common)}: {min(common)}, " in " ".join(text.split())


def test_experiments_on_other_images_have_nothing_in_common(scratch):
    text = " ".join(told("compare", "digits-ir20-random-s0", "digits-ir20-random-s1", "--out", str(scratch)).split())
    assert "they have different splits" in text and "labeled by both:" not in text
    assert re.search(r"20 \d+\.\d\d \d+\.\d\d [+-]\d+\.\d\d ", text)  # the test set is the same


def test_accuracies_on_other_images_have_no_difference():
    a, b = (SimpleNamespace(config=merged_small(holdout), split_digest="s", data_digest="d") for holdout in (4, 4))
    assert show._one_measure(a, b, "holdout") and show._one_measure(a, b, "test")
    assert not show._one_measure(a, SimpleNamespace(**{**vars(b), "split_digest": "t"}), "holdout")
    assert not show._one_measure(a, SimpleNamespace(**{**vars(b), "config": merged_small(5)}), "val")
    assert not show._one_measure(a, SimpleNamespace(**{**vars(b), "data_digest": "e"}), "test")


def test_of_one_name_a_fingerprint_tells_two_experiments_apart(scratch, longer):
    name = "digits-ir20-random-s0"
    assert "may be any of 2 experiments" in told("show", name, "--out", str(scratch), code=2)
    text = " ".join(told("compare", *longer, "--out", str(scratch)).split())
    assert "train.epochs 50 60" in text and f"{name} {longer[0][:8]}" in text


def test_a_fingerprint_names_an_experiment_too_and_nonsense_none(scratch):
    name = next((scratch / "state").iterdir()).name
    assert "picked by class" in told("show", name, "--out", str(scratch))
    assert "is no finished experiment" in told("show", "digits-ir20-pfk-s1", "--out", str(scratch), code=2)
    assert "no finished rounds" in told("show", "x", "--out", str(scratch / "empty"), code=4)


def test_classes_have_their_names_and_numbers_are_said_to_be_numbers(scratch, tmp_path):
    folder = next(f for f in (scratch / "state").iterdir() if "pfk_joint-s0" in (f / "about.json").read_text())
    copy = shutil.copytree(folder, tmp_path / "state" / folder.name)
    about = json.loads((copy / "about.json").read_text())
    about["config"]["data"] = {"name": "folder", "folder": "mine"}
    names = ["10", "2", "cat", "dog", "elk", "emu", "fox", "gnu", "hen", "owl"]
    (copy / "about.json").write_text(json.dumps({**about, "classes": names}))
    text = told("show", folder.name, "--out", str(tmp_path))
    assert ["b", *names] in [line.split() for line in text.splitlines()]
    assert "holds no names" not in text
    (copy / "about.json").write_text(json.dumps({k: v for k, v in about.items() if k != "classes"}))
    text = told("show", folder.name, "--out", str(tmp_path))
    assert "this run holds no names of classes" in text
    assert ["b", *map(str, range(10))] in [line.split() for line in text.splitlines()]


def test_a_run_is_shown_and_found_by_the_alias_of_its_method(scratch, tmp_path):
    folder = next(f for f in (scratch / "state").iterdir() if "pfk_joint-s0" in (f / "about.json").read_text())
    copy = shutil.copytree(folder, tmp_path / "state" / folder.name)
    about = json.loads((copy / "about.json").read_text())
    about["config"]["acquisition"] |= {"pseudo_label": "joint_shift_grid", "matching": "coverage"}
    (copy / "about.json").write_text(json.dumps(about))
    bias = "ir20" if "ir20" in about["name"] else "ir1"
    for name in ("fisher_coverage", "pfk_joint_shift_grid:coverage"):
        text = told("show", f"digits-{bias}-{name}-s0", "--out", str(tmp_path))
        assert text.startswith(f"digits-{bias}-fisher_coverage-s0\n")


def test_experiments_of_the_scratch_folder_are_shown_without_torch(scratch):
    commands = [
        ["show", "digits-ir20-pfk_joint-s1", "--out", str(scratch)],
        ["compare", "digits-ir20-random-s0", "digits-ir20-pfk_joint-s0", "--out", str(scratch)],
    ]
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from fkal.cli.main import app\n"
        f"print([CliRunner().invoke(app, line).exit_code for line in {commands!r}])\n"
        "print([name for name in ('torch', 'mlflow', 'pandas', 'optuna') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (told.stdout, told.stderr) == ("[0, 0]\n[]\n", "")
