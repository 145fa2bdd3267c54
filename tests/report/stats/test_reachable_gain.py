"""Shares of the reachable gain, from curves whose areas are known."""

from collections.abc import Mapping, Sequence

import pandas as pd
import pytest

from fkal.report.honest_rows import honest_exhibit, not_counted, validation_labels
from fkal.report.panels import Panel
from fkal.report.stats.reachable_gain import reachable_gain
from fkal.results.outcome import Group

GROUP = Group("digits", "ir20", "last", 20, "test", validation_per_class=30)


def panel(balanced: Mapping[str, Sequence[float]], **group: object) -> Panel:
    """Two rounds of the same balanced accuracy, by method and seed; the accuracy is another one."""
    rows = [
        {
            "dataset": "digits",
            "method": method,
            "seed": seed,
            "b": b,
            "labels_used": 20 * b,
            "test/accuracy": 0.9,
            "test/macro_accuracy": value,
        }
        for method, by_seed in balanced.items()
        for seed, value in enumerate(by_seed)
        for b in (1, 2)
    ]
    alone = {"macro_accuracy": pd.Series([0.5, 0.7])}
    return Panel("p", GROUP._replace(**group), pd.DataFrame(rows), tuple(balanced), {}, (), "", alone)


SOME = {
    "random": [0.40, 0.42, 0.38],
    "pcc": [0.50, 0.53, 0.47],
    "pfk_true": [0.55, 0.56, 0.54],
    "pfk_true:coverage": [0.61, 0.62, 0.57],
}


def test_a_share_is_the_gain_over_random_by_that_of_the_better_limit():
    found = reachable_gain(panel(SOME), "t")
    assert found.limit == "pfk_true:coverage"
    assert found.gain == pytest.approx(20)
    assert found.shares == pytest.approx({"pcc": 0.5, "pfk_true": 0.75, "pfk_true:coverage": 1.0})


def test_a_method_below_random_has_a_negative_share():
    assert reachable_gain(panel({**SOME, "pcc": [0.38, 0.40, 0.36]}), "t").shares["pcc"] == pytest.approx(-0.1)


@pytest.mark.parametrize(
    "limit",
    [
        [0.41, 0.41, 0.39],  # a difference that the seeds do not show
        [0.38, 0.39, 0.37],  # worse than random
    ],
)
def test_without_a_significant_gain_there_is_no_share_but_its_size(limit):
    found = reachable_gain(panel({"random": SOME["random"], "pcc": SOME["pcc"], "pfk_true": limit}), "t")
    assert found.shares is None
    caption = honest_exhibit(panel({"random": SOME["random"], "pfk_true": limit}), "t").caption
    assert "There is no reachable gain (" in caption


@pytest.mark.parametrize(
    ("limit", "seeds"), [([0.60], "one seed"), ([0.60, 0.62, 0.58], "seeds that all differ alike")]
)
def test_where_nothing_can_be_tested_nothing_is_denied(limit, seeds):
    found = reachable_gain(panel({"random": SOME["random"], "pfk_true": limit}), "t")
    assert found.shares is None and not found.is_tested
    caption = honest_exhibit(panel({"random": SOME["random"], "pfk_true": limit}), "t").caption
    assert f"The reachable gain, 20.0 by pfk_true, cannot be tested with {seeds}" in caption
    assert "no reachable gain" not in caption


def test_the_limit_is_one_of_those_with_most_seeds():
    """A limit of one easy seed does not take the place of one that three seeds show."""
    found = reachable_gain(panel({**SOME, "pfk_true:coverage": [0.9]}), "t")
    assert found.limit == "pfk_true" and found.shares is not None


def test_shares_are_of_the_seeds_that_all_three_have():
    shorter = {**SOME, "pcc": [0.50, 0.53]}
    assert reachable_gain(panel(shorter), "t").shares["pcc"] == pytest.approx((0.515 - 0.41) / (0.615 - 0.41))


def test_methods_that_all_start_alike_have_their_rows_too():
    """Where nothing is pretrained, each name says so."""
    cold = panel({f"{method}:random_theta_0": areas for method, areas in SOME.items()})
    found = reachable_gain(cold, "t")
    assert found.limit == "pfk_true:coverage:random_theta_0" and "pcc:random_theta_0" in found.shares
    assert "Not run: all; run" in honest_exhibit(cold, "t").caption
    mixed = panel({**SOME, "pcc:random_theta_0": SOME["pcc"]})
    assert reachable_gain(mixed, "t").limit == "pfk_true:coverage"


def test_without_random_or_a_limit_there_is_none():
    assert reachable_gain(panel({"random": [0.4], "pcc": [0.5]}), "t") is None
    assert reachable_gain(panel({"pfk_true": [0.4], "pcc": [0.5]}), "t") is None


def test_the_rows_have_validation_alone_and_the_command_for_what_was_not_run():
    exhibit = honest_exhibit(panel(SOME), "t")
    rows = {row[0]: row[1:] for row in exhibit.shown.rows}
    assert rows["pcc"][-1] == "50 %"
    assert rows["validation_only"] == ["0", "–", "60.0 ± 14.1", "–"]
    assert "Not run: all; run: fkal run --method all." in exhibit.caption


def test_validation_labels_are_counted_wherever_labels_saved_are_spoken_of():
    assert validation_labels(panel(SOME, holdout=5)) == "25 validation labels per class"
    assert not_counted(panel(SOME)).endswith("30 validation labels per class, not trained on.")
    assert not_counted(panel(SOME, on_validation=True)).endswith("trained on as well.")
