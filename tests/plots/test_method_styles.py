"""A method looks the same in every figure, and unlike the others."""

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from fkal.acquisition.registry import ACQUISITIONS
from fkal.core.labels import PSEUDO_LABELS
from fkal.plots.method_styles import LINES, MARKERS, STYLES, look, method_styles

PLAIN = [*(name for name in ACQUISITIONS if name != "pfk"), *(f"pfk_{label}" for label in PSEUDO_LABELS)]
OWN = "pfk_joint_shift_grid:coverage"


def test_every_registered_method_has_a_look_of_its_own():
    assert set(PLAIN) <= set(STYLES)
    assert len(set(STYLES.values())) == len(STYLES)


def test_plain_methods_are_told_apart_by_colour_and_line_and_by_colour_and_marker():
    for a, b in combinations([*PLAIN, OWN], 2):
        (colour, marker, line), (other, others_marker, others_line) = look(a), look(b)
        assert (colour, line) != (other, others_line), (a, b)
        assert (colour, marker) != (other, others_marker), (a, b)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.csv")), ids=lambda p: p.stem
)
def test_no_two_methods_of_the_kept_curves_look_alike(file):
    styles = method_styles(pd.read_csv(file)["method"].unique())
    assert len(set(styles.values())) == len(styles) > 1


@pytest.mark.parametrize("method", ["own", "own@conv2", "pcc:k32", "entropy:k99"])
def test_an_unlisted_method_looks_the_same_beside_any_others(method):
    assert method_styles([method])[method] == method_styles([*STYLES, "another", method])[method]


def test_an_unlisted_method_has_its_plain_names_colour_and_a_marker_that_no_listed_one_has():
    colour, marker, line = look("pcc:k32")
    assert colour == look("pcc")[0]
    assert marker in MARKERS and line in LINES
    assert not {style[1] for style in STYLES.values()} & set(MARKERS)


def test_a_short_name_looks_as_the_long_one():
    assert look("fisher_coverage") == look(OWN)
    assert look("fisher_coverage@conv2") == look(f"{OWN}@conv2")
