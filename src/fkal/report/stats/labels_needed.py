"""Labels needed to reach an accuracy, and how many fewer that is than a baseline needs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fkal.report.panels import Panel
from fkal.results.curves import labels_to_reach

CONFIDENCE = 0.95
FEWEST = 3
"""Seeds below which an interval says nothing: with two, Student's t is 12.7 standard errors."""

QUANTILES = (0.1, 0.5, 1.0)
STEPS = (5.0, 1.0, 0.1)
"""Of accuracies to reach, in points."""
ROUNDING = 1e-9
"""80 is 80 where sums make 79.99999999999999 of it."""

KNOWS_LABELS = ("pfk_true", "boss", "all")
"""What is a limit and no method."""


class Interval(NamedTuple):
    """A geometric mean over seeds and its 95 % interval (Student's t of the logarithms), which stays above 0.

    `low` and `high` are None with fewer than `FEWEST` seeds.
    """

    mean: float
    low: float | None
    high: float | None


def targets(panel: Panel) -> tuple[float, ...]:
    """Up to three accuracies that tell methods apart: quantiles of what all seeds of a method reach, rounded down.

    The steps are 5 points, or 1 or 0.1 where the quantiles are close together; none is 0.
    """
    reached_by_all = [panel.by_seed(method, panel.accuracy).max().min() for method in panel.methods]
    ends = 100 * np.quantile(reached_by_all, QUANTILES, method="lower")
    step = next((step for step in STEPS if step <= (ends[-1] - ends[0]) / len(ends)), STEPS[-1])
    found = {round(math.floor(end / step + ROUNDING) * step, 1) for end in ends}
    return tuple(each / 100 for each in sorted(found - {0.0})) or (0.5,)


def reached(panel: Panel, method: str, accuracy: float) -> pd.DataFrame:
    """`labels` and `at_most` by seed: interpolated between rounds, NaN for a seed that does not get there.

    With `at_most` the curve starts at or above the accuracy, so that fewer labels might do.
    """
    table = panel.by_seed(method, panel.accuracy)
    found = {seed: labels_to_reach(accuracy, table.index.tolist(), table[seed].tolist()) for seed in table}
    rows = [(np.nan, False) if each is None else (each.labels, each.at_most) for each in found.values()]
    return pd.DataFrame(rows, index=list(found), columns=["labels", "at_most"])


def interval(values: Sequence[float]) -> Interval:
    """Of positive values."""
    n, logs = len(values), np.log(values)
    middle = float(logs.mean())
    if n < FEWEST:
        return Interval(float(np.exp(middle)), None, None)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * logs.std(ddof=1) / np.sqrt(n))
    return Interval(*(float(np.exp(each)) for each in (middle, middle - half, middle + half)))


def needed_frame(panel: Panel, accuracies: Sequence[float]) -> pd.DataFrame:
    """One row per method and accuracy; without a mean where not every seed gets there.

    With `at_most` a seed's curve starts at or above the accuracy: the mean is an upper bound and has no interval.
    """
    rows = []
    for method in panel.methods:
        for accuracy in accuracies:
            needed = reached(panel, method, accuracy)
            labels, at_most = needed["labels"], bool(needed["at_most"].any())
            known = interval(labels.tolist()) if labels.notna().all() else Interval(np.nan, None, None)
            ends = (None, None) if at_most else known[1:]
            rows.append((method, accuracy, int(labels.notna().sum()), len(labels), known.mean, *ends, at_most))
    return pd.DataFrame(rows, columns=["method", "accuracy", "reached_by", "seeds", "labels", "low", "high", "at_most"])


def savings_frame(panel: Panel, accuracies: Sequence[float], against: str | None = None) -> pd.DataFrame:
    """One row per method, baseline and accuracy that all seeds of the method reach: the fraction of labels saved.

    Taken seed by seed over the seeds that both have. `at_least`: the baseline never gets there and is held to need
    the whole budget, or the method's curve starts above the accuracy; the saving is no smaller than this. `at_most`:
    the baseline's curve starts above the accuracy; the saving is no larger. Where both hold nothing is known, and the
    saving is NaN. Baselines are all other methods, or `against` alone, but none that knows the pool's labels.
    """
    baselines = [against] if against in panel.methods else [m for m in panel.methods if not m.startswith(KNOWS_LABELS)]
    rows = []
    for accuracy in accuracies:
        needed = {method: reached(panel, method, accuracy) for method in panel.methods}
        for method in panel.methods:
            for baseline in baselines:
                if baseline != method and needed[method]["labels"].notna().all():
                    rows += _saving(panel, needed, method, baseline, accuracy)
    columns = ["method", "baseline", "accuracy", "seeds", "saving", "low", "high", "at_least", "at_most"]
    return pd.DataFrame(rows, columns=columns)


def _saving(
    panel: Panel, needed: dict[str, pd.DataFrame], method: str, baseline: str, accuracy: float
) -> list[tuple[object, ...]]:
    """Without an interval where it is a bound."""
    common = needed[method].index.intersection(needed[baseline].index)
    if not len(common):
        return []
    ours, theirs = needed[method].loc[common], needed[baseline].loc[common]
    at_least = bool(theirs["labels"].isna().any() or ours["at_most"].any())
    at_most = bool(theirs["at_most"].any())
    if at_least and at_most:
        return [(method, baseline, accuracy, len(common), np.nan, None, None, at_least, at_most)]
    budget = float(panel.of(baseline)["labels_used"].max())
    part, low, high = interval((ours["labels"] / theirs["labels"].fillna(budget)).tolist())
    ends = (None, None) if at_least or at_most or low is None or high is None else (1 - high, 1 - low)
    return [(method, baseline, accuracy, len(common), 1 - part, *ends, at_least, at_most)]
