"""How much of what selection could gain each method gains, in mean balanced accuracy over the budget."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from fkal.report.panels import Panel
from fkal.report.stats.paired_tests import ALPHA, paired_p_value

BASELINE = "random"
LIMITS = ("pfk_true", "pfk_true:coverage")
"""Methods that know the pool's labels; the better of them is the limit."""


class ReachableGain(NamedTuple):
    """The limit, and what it gains over random: mean and deviation over common seeds, in points.

    `shares` has each method's part of that gain; None where the gain is not significant, or where too few seeds have
    both for a test (`is_tested`).
    """

    limit: str
    gain: float
    std: float | None
    shares: dict[str, float] | None
    is_tested: bool = True


def balanced_areas(panel: Panel, method: str) -> pd.Series:
    """Mean balanced accuracy over the budget of each seed, in %; empty where it was not measured."""
    return 100 * panel.areas(method, f"{panel.group.measured}/macro_accuracy")


def reachable_gain(panel: Panel, test: str) -> ReachableGain | None:
    """None where random or a limit was not run, or they have no seed in common.

    A share is (method - random) / (limit - random), each a mean over the seeds that all three have. The limit is the
    better of those that have most seeds in common with random.
    """
    areas = {method: balanced_areas(panel, method) for method in panel.methods}
    baseline, limits = panel.trained_alike(BASELINE), map(panel.trained_alike, LIMITS)
    base = areas.get(baseline, pd.Series(dtype=float))
    gains = {limit: (areas[limit] - base).dropna() for limit in limits if limit in areas}
    gains = {limit: gain for limit, gain in gains.items() if len(gain)}
    if not gains:
        return None
    limit = max(gains, key=lambda each: (len(gains[each]), float(gains[each].mean())))
    gain = gains[limit]
    std = float(gain.std(ddof=1)) if len(gain) > 1 else None
    p = paired_p_value(gain.to_numpy(), test)
    if p is None or p >= ALPHA or gain.mean() <= 0:
        return ReachableGain(limit, float(gain.mean()), std, None, is_tested=p is not None)
    shares = {method: _share(area, base, areas[limit]) for method, area in areas.items() if method != baseline}
    return ReachableGain(limit, float(gain.mean()), std, shares)


def _share(method: pd.Series, base: pd.Series, limit: pd.Series) -> float:
    together = pd.concat([method, base, limit], axis=1).dropna()
    if together.empty:
        return float("nan")
    mine, random, best = (together.iloc[:, place].mean() for place in range(3))
    return float((mine - random) / (best - random)) if not np.isclose(best, random) else float("nan")
