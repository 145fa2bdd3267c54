"""Finished experiments of a scratch folder, by manifests alone: what they picked is not read here."""

import json
from pathlib import Path
from typing import Any

import pytest

from fkal.config.layers import Layer, merged
from fkal.errors import MissingRuns
from fkal.results.kept_runs import kept_runs
from fkal.results.manifest import FORMAT

ROUNDS = 2


def keep(out: Path, fingerprint: str, **section: dict[str, Any]) -> Path:
    """An experiment with its first round, as `fkal run` leaves it."""
    folder = out / "state" / fingerprint
    folder.mkdir(parents=True)
    usual = {"data": {"name": "digits"}, "acquisition": {"name": "random", "rounds": ROUNDS}}
    config = merged([Layer("usual", usual), Layer("test", section)]).tree
    about = {"format": FORMAT, "config": config, "split_digest": 32 * "0", "made_with": {}}
    (folder / "about.json").write_text(json.dumps(about))
    (folder / "round-01.json").write_text("{}")
    return folder


def found(out: Path):
    return kept_runs(out, lambda _: tuple(range(ROUNDS)), lambda _: ({}, {}))


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"acquisition": {"name": "myplug"}}, "unknown method 'myplug'; known: random, "),
        ({"data": {"name": "myset"}}, "dataset 'myset': not known; "),
    ],
)
def test_one_whose_method_or_dataset_is_gone_hides_no_other(tmp_path, section, why):
    gone, sound = keep(tmp_path, 32 * "a", **section), keep(tmp_path, 32 * "b")
    kept = found(tmp_path)
    assert [one.folder for one in kept.finished] == [sound] and kept.left_out == []
    (damage,) = kept.damaged
    assert damage.startswith(f"{gone}: {why}") and damage.endswith("; left out")


def test_where_all_methods_are_gone_each_is_named(tmp_path):
    gone = keep(tmp_path, 32 * "a", acquisition={"name": "myplug"})
    with pytest.raises(MissingRuns, match=f"no experiment is finished\n{gone}: unknown method"):
        found(tmp_path)
