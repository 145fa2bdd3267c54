"""Tables of balanced accuracy, for the presets with frozen backbones and for GTSRB."""

from collections.abc import Mapping, Sequence

import pandas as pd
from scipy import stats

from fkal.config.method_spec import short_method_name
from result_pages.cells import (
    WITHOUT_CURVE,
    areas,
    by_round,
    gaps,
    head,
    holm_ps,
    p_text,
    points,
    row,
    seeds,
    signed_points,
    spread,
)

BASELINE = "random"
AGAINST = "balanced_margin"
LIMITS = ("pfk_true", "pfk_true:coverage")
"""Methods that know the pool's labels."""
OVERVIEW = (
    "random",
    "balanced_margin",
    "pfk_joint_shift_grid:coverage",
    "pfk_joint_shift_grid:wcov",
    "pfk_joint_shift_grid:noisy_or",
    "pfk_true:coverage",
    "validation_only",
)
"""The columns of a table that has a setting per row."""
ALPHA = 0.05
BALANCED = "test/macro_accuracy"


def balanced(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """A row per method: balanced accuracies, their area, the share of the reachable gain, a paired test."""
    order = list(dict.fromkeys(curves.method))
    of_methods = {m: areas(curves[curves.method == m], BALANCED) for m in order if m not in WITHOUT_CURVE}
    shares, apart = shares_of(of_methods), gaps(of_methods, AGAINST)
    ps = holm_ps(apart)
    with_curve = curves[~curves.method.isin(WITHOUT_CURVE)]
    last = int(with_curve.b.max())
    shown = sorted({b for b in (1, 2, 4, last) if b <= last})
    labels = with_curve.groupby("b").labels_used.first()
    heads = [f"{labels[b]:,} labels" for b in shown]
    lines = head("method", "seeds", *heads, "rare classes, last", "AUBC", "share, %", f"- `{AGAINST}`", "p")
    for method in order:
        mine = curves[curves.method == method]
        rare = spread(mine[mine.b == mine.b.max()]["test/minority_accuracy"])
        test = (signed_points(apart[method]), p_text(ps[method])) if method in ps else ("", "")
        area = points(of_methods[method]) if method in of_methods else ""
        cells = (*by_round(mine, BALANCED, shown), rare, area, shares.get(method, ""), *test)
        lines.append(row(f"`{short_method_name(method)}`", seeds(mine), *cells))
    return lines


def shares_of(of_methods: Mapping[str, pd.Series]) -> dict[str, str]:
    """(method - random) / (limit - random) in %; nothing where the limit gains nothing.

    On the seeds that the method, `random` and the limit have. The limit is the better of those that have most seeds.
    """
    gains = gaps({m: area for m, area in of_methods.items() if m in (*LIMITS, BASELINE)}, BASELINE)
    if not gains:
        return {}
    limit = max(gains, key=lambda method: (len(gains[method]), float(gains[method].mean())))
    gain = gains[limit]
    if gain.mean() <= 0 or stats.ttest_1samp(gain, 0).pvalue >= ALPHA:
        return {limit: f"no reachable gain ({signed_points(gain)})"}
    shares = {}
    for method, area in of_methods.items():
        mine = (area - of_methods[BASELINE]).reindex(gain.index).dropna()
        if method != BASELINE and len(mine):
            shares[method] = f"{100 * mine.mean() / gain[mine.index].mean():.0f}"
    return shares


def overview(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """A setting per row, a column per method: mean balanced accuracies after the first and after the last round.

    A cell names its seeds where they are fewer than the setting's.
    """
    lines = head("setting", "labels", *(f"`{short_method_name(method)}`" for method in OVERVIEW))
    for title in dict.fromkeys(curves.title):
        mine = curves[curves.title == title]
        with_curve = mine[~mine.method.isin(WITHOUT_CURVE)]
        ends = (1, int(with_curve.b.max()))
        labels = with_curve.groupby("b").labels_used.first()
        cells = [_at_ends(mine[mine.method == method], ends, seeds(with_curve)) for method in OVERVIEW]
        lines.append(row(f"{title} (seeds {seeds(with_curve)})", ", ".join(f"{labels[b]:,}" for b in ends), *cells))
    return lines


def _at_ends(curves: pd.DataFrame, ends: Sequence[int], of_setting: str) -> str:
    """`36.8, 43.7`, or `36.8, 43.7 (0-4)` with fewer seeds; a single number of a method that trains once."""
    means = 100 * curves.groupby("b")[BALANCED].mean()
    text = ", ".join(f"{means[b]:.1f}" for b in ends if b in means)
    return text if not text or seeds(curves) == of_setting else f"{text} ({seeds(curves)})"
