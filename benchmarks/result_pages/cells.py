"""What cells of tables say: means with deviations, seeds, p-values; and areas under budget curves."""

from collections.abc import Mapping, Sequence

import pandas as pd

from fkal.report.stats.paired_tests import holm, paired_p_value
from fkal.results.curves import area_under_budget_curve

WITHOUT_CURVE = ("validation_only", "all")
"""Methods that train once, on no pool image or on all of them."""
FEWEST_SEEDS = 3
"""Seeds that a difference needs: of two a test says nothing, and makes those of other methods weaker."""


def spread(values: pd.Series) -> str:
    """Mean ± standard deviation of fractions, in %."""
    return points(100 * values)


def points(values: pd.Series) -> str:
    """Mean ± standard deviation of what is in points already."""
    return _mean_and_std(values.mean(), values.std())


def signed_points(values: pd.Series) -> str:
    """The same of differences."""
    return f"{values.mean():+.1f}±{values.std():.1f}"


def _mean_and_std(mean: float, std: float) -> str:
    """A single value has no deviation, and no value no cell."""
    if pd.isna(mean):
        return ""
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f}±{std:.1f}"


def by_round(curves: pd.DataFrame, column: str, rounds: Sequence[int]) -> list[str]:
    """Over the seeds, for each of the rounds; nothing where a round is not there.

    A method without a curve is in the last one.
    """
    if set(curves.method) <= set(WITHOUT_CURVE):
        return [*[""] * (len(rounds) - 1), spread(curves[column])]
    found = 100 * curves.groupby("b")[column].agg(["mean", "std"])
    return [_mean_and_std(*found.loc[b]) if b in found.index else "" for b in rounds]


def seeds(curves: pd.DataFrame) -> str:
    """`0-4`, or the numbers where they are no range."""
    numbers = sorted(curves.seed.unique())
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(n) for n in numbers)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> list[str]:
    """The two lines above the rows."""
    return [row(*cells), "|" + " --- |" * len(cells)]


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def areas(curves: pd.DataFrame, column: str = "accuracy") -> pd.Series:
    """AUBC in points, by seed."""
    by_seed = {
        seed: 100 * area_under_budget_curve(run.labels_used.tolist(), run[column].tolist())
        for seed, run in curves.sort_values("b").groupby("seed")
    }
    return pd.Series(by_seed, dtype=float)


def gaps(of_methods: Mapping[str, pd.Series], against: str) -> dict[str, pd.Series]:
    """Differences to `against` on the seeds that both have; a method with fewer than `FEWEST_SEEDS` is left out."""
    if against not in of_methods:
        return {}
    found = {m: (area - of_methods[against]).dropna() for m, area in of_methods.items() if m != against}
    return {method: gap for method, gap in found.items() if len(gap) >= FEWEST_SEEDS}


def holm_ps(of_methods: Mapping[str, pd.Series]) -> dict[str, float]:
    """p of each difference being none, by a paired t-test, corrected by Holm over all of them.

    One that is the same in each seed has no p: it has no error to be held against.
    """
    found = {method: paired_p_value(gap.to_numpy(), "t") for method, gap in of_methods.items()}
    ps = {method: p for method, p in found.items() if p is not None}
    return dict(zip(ps, holm(list(ps.values())), strict=True))
