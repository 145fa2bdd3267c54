"""Labels needed to reach an accuracy, and how many fewer that is than a baseline needs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fkal.plots.curves import labels_to_reach
from fkal.report.panels import Panel

CONFIDENCE = 0.95
FEWEST = 3
"""Seeds below which an interval says nothing: with two, Student's t is 12.7 standard errors."""

KNOWS_LABELS = ("pfk_true", "all")
"""What is a limit and no method."""


class Interval(NamedTuple):
    """A geometric mean over seeds and its 95 % interval (Student's t of the logarithms), which stays above 0.

    `low` and `high` are None with fewer than `FEWEST` seeds.
    """

    mean: float
    low: float | None
    high: float | None


def reached(panel: Panel, method: str, accuracy: float) -> pd.Series:
    """Labels by seed, interpolated between iterations; NaN for a seed that does not get there."""
    table = panel.by_seed(method, panel.accuracy)
    found = {seed: labels_to_reach(accuracy, table.index.tolist(), table[seed].tolist()) for seed in table}
    return pd.Series(found, dtype=float)


def interval(values: Sequence[float]) -> Interval:
    """Of positive values."""
    n, logs = len(values), np.log(values)
    middle = float(logs.mean())
    if n < FEWEST:
        return Interval(float(np.exp(middle)), None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * logs.std(ddof=1) / np.sqrt(n))
    return Interval(*(float(np.exp(each)) for each in (middle, middle - half, middle + half)))


def needed_frame(panel: Panel, accuracies: Sequence[float]) -> pd.DataFrame:
    """One row a method and accuracy; without a mean where not every seed gets there."""
    rows = []
    for method in panel.methods:
        for accuracy in accuracies:
            labels = reached(panel, method, accuracy)
            known = interval(labels.tolist()) if labels.notna().all() else Interval(np.nan, None, None)
            rows.append((method, accuracy, int(labels.notna().sum()), len(labels), *known))
    return pd.DataFrame(rows, columns=["method", "accuracy", "reached_by", "seeds", "labels", "low", "high"])


def savings_frame(panel: Panel, accuracies: Sequence[float], against: str | None = None) -> pd.DataFrame:
    """One row a method, baseline and accuracy that the method's seeds all reach: the fraction of labels saved.

    Taken seed by seed over the seeds that both have. Where the baseline never gets there (`at_least`), it is held to
    need the whole budget, so the saving is no smaller than this. Baselines are all other methods, or `against` alone,
    but none that knows the pool's labels.
    """
    baselines = [against] if against in panel.methods else [m for m in panel.methods if not m.startswith(KNOWS_LABELS)]
    rows = []
    for accuracy in accuracies:
        labels = {method: reached(panel, method, accuracy) for method in panel.methods}
        for method in panel.methods:
            for baseline in baselines:
                if baseline != method and labels[method].notna().all():
                    rows += _saving(panel, labels, method, baseline, accuracy)
    columns = ["method", "baseline", "accuracy", "seeds", "saving", "low", "high", "at_least"]
    return pd.DataFrame(rows, columns=columns)


def _saving(
    panel: Panel, labels: dict[str, pd.Series], method: str, baseline: str, accuracy: float
) -> list[tuple[object, ...]]:
    """Without an interval where it is a bound."""
    common = labels[method].index.intersection(labels[baseline].index)
    if not len(common):
        return []
    theirs = labels[baseline][common]
    at_least = bool(theirs.isna().any())
    budget = float(panel.of(baseline)["labels_used"].max())
    part, low, high = interval((labels[method][common] / theirs.fillna(budget)).tolist())
    ends = (None, None) if at_least or low is None or high is None else (1 - high, 1 - low)
    return [(method, baseline, accuracy, len(common), 1 - part, *ends, at_least)]
