"""Tests between methods against scipy's own, and the penalty matrix by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fkal.report.experiments import Material
from fkal.report.panels import Panel, panels_of
from fkal.report.stats.labels_needed import interval
from fkal.report.stats.paired_tests import holm, pairs, penalty_matrix


def panel(**accuracies: list[list[float]]) -> Panel:
    """By method a list of seeds, each a list of accuracies at 10, 20, ... labels."""
    rows = [
        ("d", "ir1", "last", method, seed, b, 10 * b, accuracy)
        for method, seeds in accuracies.items()
        for seed, curve in enumerate(seeds)
        for b, accuracy in enumerate(curve, 1)
    ]
    columns = ["dataset", "bias", "protocol", "method", "seed", "b", "labels_used", "test/accuracy"]
    (one,) = panels_of(Material(pd.DataFrame(rows, columns=columns), (), ()))
    return one


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_pair_is_tested_on_the_differences_of_its_seeds():
    one = panel(a=[[0.5, 0.7], [0.6, 0.8], [0.55, 0.7]], b=[[0.4, 0.5], [0.45, 0.55], [0.45, 0.5]])
    (pair,) = pairs(one)
    a, b = np.array([60, 70, 62.5]), np.array([45, 50, 47.5])
    assert (pair.first, pair.second, pair.seeds) == ("a", "b", 3)
    assert pair.difference == pytest.approx((a - b).mean())
    assert pair.p == pair.adjusted == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert pair.verdict == "a is better"
    (ranks,) = pairs(one, "wilcoxon")
    assert ranks.p == pytest.approx(0.25)
    assert ranks.verdict == "no difference shown"


def test_a_correction_takes_back_what_one_comparison_alone_would_have_shown():
    first, noise = (0.5, 0.6, 0.52), (0, 0.01, 0.03)
    offsets = zip("bcdefgh", np.arange(7) / 30, strict=True)
    others = {name: [[a + by + e] for a, e in zip(first, noise, strict=True)] for name, by in offsets}
    found = [pair for pair in pairs(panel(a=[[a] for a in first], **others)) if pair.adjusted is not None]
    taken_back = [pair for pair in found if pair.p < 0.05 <= pair.adjusted]
    assert taken_back
    assert {pair.verdict for pair in taken_back} == {"no difference shown"}


def test_one_seed_proves_nothing_and_none_in_common_even_less():
    (pair,) = pairs(panel(a=[[0.9]], b=[[0.1]]))
    assert (pair.p, pair.verdict) == (None, "one seed: nothing can be concluded")
    (same,) = pairs(panel(a=[[0.9], [0.8]], b=[[0.9], [0.8]]))
    assert (same.p, same.verdict) == (None, "all seeds differ alike: no test applies")


def test_penalties_count_the_iterations_in_which_one_beat_the_other():
    clear, close = [[0.9, 0.5], [0.91, 0.6], [0.92, 0.55]], [[0.5, 0.51], [0.5, 0.58], [0.53, 0.56]]
    table = penalty_matrix([panel(a=clear, b=close)])
    assert table.loc["a", "b"] == 0.5
    assert table.loc["b", "a"] == 0
    assert np.isnan(table.loc["a", "a"])
    assert penalty_matrix([panel(a=clear, b=close)] * 2).loc["a", "b"] == 1


def test_what_one_seed_did_is_no_penalty_and_no_praise():
    table = penalty_matrix([panel(a=[[0.9], [0.92], [0.94]], b=[[0.5], [0.53], [0.51]], c=[[0.1]])])
    assert table["c"].isna().all() and table.loc["c"].isna().all()
    assert table["b"].mean() == 1


def test_each_method_can_be_held_against_one_alone():
    one = panel(a=[[0.9], [0.8], [0.86]], b=[[0.7], [0.6], [0.64]], c=[[0.5], [0.6], [0.57]])
    found = pairs(one, against="b")
    assert [(pair.first, pair.second) for pair in found] == [("a", "b"), ("c", "b")]
    assert [pair.adjusted for pair in found] == pytest.approx(holm([pair.p for pair in found]))
    alone = {(pair.first, pair.second): pair for pair in pairs(one)}
    assert found[0].p == alone["a", "b"].p and found[0].adjusted < alone["a", "b"].adjusted


def test_an_interval_is_students_of_the_logarithms():
    values = [1.0, 2.0, 4.0]
    ends = stats.t.interval(0.95, 2, loc=np.log(values).mean(), scale=stats.sem(np.log(values)))
    assert interval(values) == pytest.approx((2, *np.exp(ends)))
    assert interval(values).low > 0
    assert interval([3.0]) == pytest.approx((3.0, None, None))
    assert interval([2.0, 8.0]) == pytest.approx((4.0, None, None))
