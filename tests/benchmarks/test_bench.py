"""`benchmarks/bench.py`: the tables of speed are those of its figures, and say what each row was measured with."""

import importlib
import json
from types import ModuleType

import pytest


@pytest.fixture
def bench() -> ModuleType:
    return importlib.import_module("bench")


def figure(**by: str) -> dict[str, object]:
    return {
        "beside": "a peer",
        "target": "1",
        "ratio": [0.9, 1.0, 1.1],
        "ours_s": 1.0,
        "other_s": 1.0,
        "extra_mb": None,
        "note": "",
        "by": {"machine": "one", "Python": "3.11.7", **by},
    }


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tables_are_those_of_the_figures(bench: ModuleType, device: str):
    page = bench.PAGE.read_text()
    figures = json.loads(bench.figures_of(bench.torch.device(device)).read_text())
    assert figures
    assert bench.page_with(page, figures, device) == page


def test_row_that_was_kept_says_what_it_was_measured_with(bench: ModuleType):
    figures = {
        "coreset": figure(torch="2.15.0"),
        "badge": figure(torch="2.15.0"),
        "typiclust": figure(torch="2.14.0", machine="another", peer="0.3"),
    }
    heading, _, _, _, coreset, badge, typiclust = bench.table(figures, "cpu")
    assert heading == "`make bench` on one, Python 3.11.7, torch 2.15.0; one thread."
    assert "measured with" not in coreset + badge
    assert "measured with another, torch 2.14.0, peer 0.3 |" in typiclust
