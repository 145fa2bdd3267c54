"""Labels needed and saved, held against numbers by hand."""

import math

import pandas as pd
import pytest

from fkal.report.load.csv import from_curves
from fkal.report.panels import panels_of
from fkal.report.stats.labels_needed import interval, needed_frame, savings_frame

CURVES = {  # accuracies after 10, 20 and 30 labels, by seed
    "ours": [[0.5, 0.9, 0.95], [0.6, 0.8, 0.95], [0.4, 0.9, 0.92]],
    "early": [[0.85, 0.9, 0.9], [0.7, 0.9, 0.9], [0.7, 0.9, 0.9]],
    "late": [[0.2, 0.5, 0.9], [0.2, 0.6, 0.9], [0.2, 0.4, 0.8]],
    "never": [[0.2, 0.3, 0.4], [0.2, 0.3, 0.4], [0.2, 0.3, 0.4]],
}


@pytest.fixture
def panel(tmp_path):
    rows = [
        {
            "dataset": "tiny", "bias": "ir2", "protocol": "last", "method": method, "seed": seed, "b": b,
            "labels_used": 10 * b, "test/accuracy": accuracy,
        }
        for method, seeds in CURVES.items()
        for seed, curve in enumerate(seeds)
        for b, accuracy in enumerate(curve, 1)
    ]  # fmt: skip
    path = tmp_path / "curves.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    (only,) = panels_of(from_curves(path))
    return only


def row_of(frame, **wanted):
    (row,) = frame.loc[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)].to_dict("records")
    return row


def test_labels_between_rounds_have_a_mean_and_an_interval(panel):
    row = row_of(needed_frame(panel, [0.8]), method="ours")
    labels = [10 + 10 * 0.3 / 0.4, 20.0, 10 + 10 * 0.4 / 0.5]
    assert (row["labels"], row["low"], row["high"]) == pytest.approx(interval(labels))
    assert not row["at_most"]


def test_a_seed_that_starts_above_makes_the_mean_a_bound_without_an_interval(panel):
    row = row_of(needed_frame(panel, [0.8]), method="early")
    assert row["labels"] == pytest.approx(math.prod([10.0, 15.0, 15.0]) ** (1 / 3))
    assert row["at_most"] and pd.isna(row["low"]) and pd.isna(row["high"])


def test_a_saving_has_an_interval_where_nothing_is_a_bound(panel):
    row = row_of(savings_frame(panel, [0.8]), method="ours", baseline="late")
    parts = [17.5 / 27.5, 20.0 / (20 + 10 * 0.2 / 0.3), 18.0 / 30.0]
    mean, low, high = interval(parts)
    assert (row["saving"], row["low"], row["high"]) == pytest.approx((1 - mean, 1 - high, 1 - low))
    assert not row["at_least"] and not row["at_most"]


@pytest.mark.parametrize(
    ("method", "baseline", "at_least", "at_most"),
    [("early", "late", True, False), ("late", "early", False, True), ("ours", "never", True, False)],
)
def test_a_saving_that_is_a_bound_says_in_which_direction(panel, method, baseline, at_least, at_most):
    row = row_of(savings_frame(panel, [0.8]), method=method, baseline=baseline)
    assert (row["at_least"], row["at_most"]) == (at_least, at_most)
    assert not math.isnan(row["saving"]) and pd.isna(row["low"])


def test_nothing_is_known_of_a_saving_between_two_methods_that_start_above(panel):
    row = row_of(savings_frame(panel, [0.35]), method="ours", baseline="early")
    assert row["at_least"] and row["at_most"] and math.isnan(row["saving"])
