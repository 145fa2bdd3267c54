"""Budget curves as numbers."""

import pytest

from fkal.results.curves import area_under_budget_curve, curve_frame, labels_to_reach


def test_the_area_is_the_mean_accuracy_over_the_budget():
    assert area_under_budget_curve([10, 20, 40], [0.5, 0.7, 0.9]) == pytest.approx((6 + 16) / 30)
    assert area_under_budget_curve([10, 30], [0.8, 0.8]) == pytest.approx(0.8)
    assert area_under_budget_curve([10], [0.4]) == 0.4


def test_labels_to_reach_lie_between_two_rounds():
    assert labels_to_reach(0.9, [10, 20], [0.8, 1.0]) == (pytest.approx(15), False)
    assert labels_to_reach(0.9, [10, 20], [0.5, 0.89]) is None
    assert labels_to_reach(0.9, [10, 20, 30], [0.5, 0.9, 0.2]) == (pytest.approx(20), False)


def test_a_curve_that_starts_above_gives_a_bound():
    assert labels_to_reach(0.9, [10, 20], [0.95, 1.0]) == (10, True)
    assert labels_to_reach(0.9, [10, 20], [0.9, 0.5]) == (10, True)


def test_a_curve_has_a_row_an_iteration(experiment, tiny_round):
    table = curve_frame([tiny_round(experiment, b) for b in (1, 2)])
    assert table["b"].tolist() == [1, 2]
    assert table["labels_used"].tolist() == [6, 12]
    assert table["test/accuracy"].tolist() == [tiny_round(experiment, b).metrics["test/accuracy"] for b in (1, 2)]
    assert curve_frame([]).empty
