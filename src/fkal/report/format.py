"""Numbers as the page prints them."""

from collections.abc import Callable, Iterable

import pandas as pd

MISSING = "–"


def mean_std(values: pd.Series) -> str:
    """Of values in %."""
    if values.isna().all():
        return MISSING
    return f"{values.mean():.1f} ± {values.std():.1f}" if values.count() > 1 else f"{values.mean():.1f}"


def with_interval(mean: float, low: float | None, high: float | None, form: Callable[[float], str]) -> str:
    if low is None or high is None or pd.isna(low):
        return form(mean)
    return f"{form(mean)} [{form(low)}, {form(high)}]"


def count(value: float) -> str:
    return f"{value:,.0f}"


def percent(fraction: float) -> str:
    """In %, with a decimal where there is one."""
    return f"{round(100 * fraction, 1):g}"


def points(mean: float, std: float | None) -> str:
    if pd.isna(mean):
        return MISSING
    return f"{mean:+.2f}" if std is None else f"{mean:+.2f} ± {std:.2f}"


def p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seeds_text(seeds: Iterable[int]) -> str:
    """`0-4`, or `0, 2, 7`."""
    numbers = sorted(set(seeds))
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]}-{numbers[-1]}"
    return ", ".join(str(n) for n in numbers)
