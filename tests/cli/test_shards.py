"""A grid in shards, merged, against the same grid in one; and an experiment reproduced from its record."""

import json
import re
import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.results.round_facts import facts_bytes

QUICK = (
    *("--preset", "digits", "--method", "random,margin"),
    *("--set", "pretrain.task=none", "--set", "train.epochs=1", "--set", "acquisition.rounds=2"),
)
NAME = "digits-ir20-margin:random_theta_0-s0"


def fkal(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result


def rounds(out: Path) -> dict[str, list]:
    """Facts without timings, by fingerprint and file."""
    found: dict[str, list] = {}
    for path in sorted((out / "state").glob("*/round-*.json")):
        facts = json.loads(path.read_text())
        kept = {key: value for key, value in facts.items() if key not in ("seconds", "peak_memory_mb", "digest")}
        found.setdefault(path.parent.name, []).append(kept)
    return found


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of the grid that was run in one."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fkal("run", *QUICK)
    return folder / "runs"


@pytest.mark.slow
def test_two_shards_merged_equal_one_run(whole, here):
    for shard in ("0", "1"):
        fkal("run", *QUICK, "--shard", f"{shard}/2", "--out", shard, "--tracking-uri", f"sqlite:///{shard}.db")
        assert len(rounds(Path(shard))) == 1
    assert "2 experiments came or grew, 0 were there" in fkal("merge", "0", "1", "--out", "merged").stdout
    assert rounds(Path("merged")) == rounds(whole)
    assert "0 experiments came or grew, 2 were there" in fkal("merge", "0", "1", "--out", "merged").stdout
    assert "2 of 2 experiments" in fkal("sync", "--out", "merged").stdout
    told = json.loads(fkal("runs", "--json").stdout)["runs"]
    assert [run["status"] for run in told] == ["FINISHED"] * 2
    assert fkal("run", *QUICK, "--out", "merged").stderr.count("finished before, nothing to do") == 2


@pytest.mark.slow
def test_what_does_not_fit_is_left_out_and_named(whole, here):
    first, second = sorted((whole / "state").iterdir())
    fkal("merge", str(whole))
    for folder in (first, second):
        (Path("other/state") / folder.name).mkdir(parents=True)
        for path in folder.glob("[ar]*.*"):
            (Path("other/state") / folder.name / path.name).write_bytes(path.read_bytes())
    changed = Path("other/state") / first.name / "round-02.json"
    facts = json.loads(changed.read_text())
    changed.write_bytes(facts_bytes({**facts, "metrics": {**facts["metrics"], "test/accuracy": 0.123}}))
    (Path("other/state") / second.name / "round-01.safetensors").write_bytes(b"torn")
    before = {path: path.read_bytes() for path in Path("runs").rglob("*.json")}
    told = fkal("merge", "other", code=3)
    assert "2 cannot be read, or only in part" in told.stderr
    assert f"{first.name}: round 2: is not the one of" in told.stderr
    assert f"{second.name}: round 1: its files do not belong together" in told.stderr
    assert {path: path.read_bytes() for path in Path("runs").rglob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("runs", "--out", "runs"), 2, "is --out itself"),
        (("absent",), 4, "no finished rounds"),
        ((), 2, "FOLDERS"),
    ],
)
def test_what_cannot_be_merged_is_refused(here, arguments, code, part):
    assert part in fkal("merge", *arguments, code=code).output.replace("folders", "FOLDERS")
    assert not list(here.iterdir())


def test_a_full_disk_ends_the_merge_with_the_path_and_the_way_out(whole, here):
    """Not as so many experiments that do not fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        said = fkal("merge", str(whole), code=1).stderr
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = said.splitlines()
    assert re.search(r"runs/state/\w+/[\w.-]+: File too large; make room there", line)
    assert "2 experiments came or grew" in fkal("merge", str(whole)).stdout


def test_a_split_that_is_no_file_is_left_out_and_named(whole, here):
    (split,) = (whole / "splits").glob("*.json")
    (here / "runs/splits" / split.name).mkdir(parents=True)
    said = fkal("merge", str(whole), code=3)
    assert "2 experiments came or grew" in said.stdout
    assert f"{split}: " in said.stderr and "left out" in said.stderr and "Errno" not in said.stderr


def test_a_link_out_of_the_folder_brings_nothing(whole, here):
    fkal("merge", str(whole), "--out", "source")
    (name,) = {path.name for path in (whole / "state").iterdir()} & {min(rounds(whole))}
    linked = Path("source/state") / name
    linked.rename(here / "elsewhere")
    linked.symlink_to(here / "elsewhere")
    assert "a symbolic link leads out of source" in fkal("merge", "source", "--out", "into", code=3).stderr
    assert not (Path("into/state") / name).exists()


def test_an_experiment_is_reproduced_from_its_record(whole, here):
    told = fkal("reproduce", NAME, "--out", str(whole)).stdout
    assert told.splitlines() == [
        "round 1: the same picks, the same metrics",
        "round 2: the same picks, the same metrics",
        f"{NAME}: 2 of 2 rounds are the same to the last digit",
    ]
    assert not list(here.iterdir())


def test_where_it_differs_the_round_says_how_and_the_exit_code_is_1(whole, here):
    fkal("merge", str(whole))
    (state,) = (
        path
        for path in Path("runs/state").iterdir()
        if "margin" in json.loads((path / "about.json").read_text())["name"]
    )
    facts = json.loads((state / "round-02.json").read_text())
    altered = {**facts, "metrics": {**facts["metrics"], "test/accuracy": 0.123}}
    (state / "round-02.json").write_bytes(facts_bytes(altered))
    about = json.loads((state / "about.json").read_text())
    about["made_with"]["torch"] = "1.0"
    (state / "about.json").write_text(json.dumps(about))
    told = fkal("reproduce", NAME, code=1)
    was = facts["metrics"]["test/accuracy"]
    assert f"round 2: the same picks; test/accuracy 0.123 -> {was:.6g}" in told.stdout
    assert "1 of 2 rounds are the same" in told.stdout
    assert "torch: 1.0 when it ran" in told.stderr
