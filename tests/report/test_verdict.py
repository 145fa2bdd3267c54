"""The first lines of the page, from curves whose differences are known."""

from collections.abc import Mapping, Sequence

import pandas as pd
import pytest
from scipy import stats

from fkal.report.panels import Panel
from fkal.report.stats.labels_needed import targets
from fkal.report.stats.paired_tests import pairs
from fkal.report.verdict import setup, verdicts
from fkal.results.outcome import Group

GROUP = Group("digits", "ir20", "last", 20, "test")


def panel(accuracies: Mapping[str, Sequence[float]], bias: str = "ir20", start: float = 0.1) -> Panel:
    """Two rounds; each method's accuracy after the second, by seed. Methods are given from the best to the worst."""
    rows = [
        {
            "dataset": "digits",
            "bias": bias,
            "protocol": "last",
            "measured": "test",
            "method": method,
            "seed": seed,
            "b": b,
            "labels_used": 20 * b,
            "test/accuracy": accuracy if b == 2 else start,
        }
        for method, by_seed in accuracies.items()
        for seed, accuracy in enumerate(by_seed)
        for b in (1, 2)
    ]
    return Panel(f"digits-{bias}", GROUP._replace(bias=bias), pd.DataFrame(rows), tuple(accuracies), {}, ())


def test_a_better_method_is_called_better_with_its_points_and_its_p():
    better, worse = [0.8, 0.82, 0.78], [0.4, 0.41, 0.42]
    (line,) = verdicts([panel({"pfk_joint": better, "random": worse})], "t")
    differences = [50 * (a - b) for a, b in zip(better, worse, strict=True)]
    p = stats.ttest_1samp(differences, 0).pvalue
    mean = sum(differences) / 3
    assert line == f"pfk_joint is better than random: +{mean:.1f} points of mean accuracy, p {p:.3f}; 3 seeds."


def test_the_verdict_has_the_corrected_p_of_the_table_and_the_alias():
    some = {"pfk_joint_shift_grid:coverage": [0.8, 0.82, 0.78], "pcc": [0.5, 0.52, 0.5], "random": [0.4, 0.41, 0.42]}
    (line,) = verdicts([panel(some)], "t")
    assert line.startswith("fisher_coverage is better than random: +19.5 points")
    (pair,) = [each for each in pairs(panel(some)) if {each.first, each.second} == {next(iter(some)), "random"}]
    assert pair.adjusted is not None and pair.p is not None and pair.adjusted > pair.p
    assert f"p {pair.adjusted:.3f};" in line


@pytest.mark.parametrize(
    ("accuracies", "words"),
    [
        ({"pcc": [0.8], "random": [0.4]}, "Nothing can be concluded from one seed"),
        ({"pcc": [0.8, 0.3], "random": [0.4, 0.45]}, "No difference is shown between pcc and random"),
        ({"pcc": [0.8, 0.3], "random": [0.4, 0.45]}, "With so few seeds a difference is easily missed"),
        ({"pcc": [0.75, 0.5], "random": [0.5, 0.25]}, "No test applies to pcc and random: all 2 seeds differ alike"),
        ({"random": [0.8, 0.82, 0.78], "pcc": [0.4, 0.41, 0.42]}, "No method is better than random. The next, pcc"),
        ({"random": [0.8, 0.82]}, "There is one method here, and nothing to compare it with"),
        ({"pfk_true": [0.9, 0.9], "random": [0.8, 0.82]}, "There is one method here"),
    ],
)
def test_where_nothing_can_be_concluded_it_says_so(accuracies, words):
    (line,) = verdicts([panel(accuracies)], "t")
    assert words in line
    assert "is better than random" not in line.replace("No method is better than random", "")


def test_without_random_the_second_best_is_the_rival_and_panels_are_named():
    both = [panel({"pcc": [0.8], "badge": [0.4]}), panel({"pcc": [0.8], "badge": [0.4]}, bias="ir1")]
    lines = verdicts(both, "t")
    assert [line.split(":")[0] for line in lines] == ["digits, ir = 20", "digits, ir = 1"]
    assert "from badge" in lines[0]


def test_the_setup_names_seeds_labels_rounds_and_the_test():
    text = setup([panel({"pcc": [0.8, 0.7], "random": [0.4, 0.5]})], "wilcoxon")
    assert "Seeds 0-1; 20 to 40 labels in 2 rounds; accuracy on test images after the last epoch" in text
    assert "Wilcoxon" in text


@pytest.mark.parametrize(
    ("accuracies", "wanted"),
    [
        ({"pcc": [0.77, 0.75], "badge": [0.74, 0.73], "random": [0.56, 0.48]}, (0.45, 0.7, 0.75)),
        ({"pcc": [0.991], "badge": [0.985], "random": [0.972]}, (0.972, 0.985, 0.991)),
        ({"pcc": [0.8], "random": [0.8]}, (0.8,)),
    ],
)
def test_accuracies_to_reach_are_round_and_reached(accuracies, wanted):
    assert targets(panel(accuracies)) == pytest.approx(wanted)


def test_one_easy_seed_does_not_hide_what_many_seeds_show():
    some = {"coreset": [0.95], "pfk_joint": [0.9, 0.7, 0.72, 0.71], "random": [0.6, 0.4, 0.41, 0.42]}
    (line,) = verdicts([panel(some)], "t")
    assert line.startswith("pfk_joint is better than random: ")


def test_against_a_limit_the_verdict_is_that_of_the_methods():
    some = {"pfk_true": [0.9, 0.91, 0.92], "pfk_joint": [0.8, 0.82, 0.78], "random": [0.4, 0.41, 0.42]}
    (line,) = verdicts([panel(some)], "t", "pfk_true")
    assert line.startswith("pfk_joint is better than random: ")
