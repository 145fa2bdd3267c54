"""Intervals around what a project measures: accuracies, gains, and what further labels are likely to bring.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.95
Z = 1.959963984540054
"""The normal quantile of a two-sided interval at LEVEL."""
HALVINGS = 50
"""Of the range in which an end of an interval lies; after so many it is exact to the last digits."""
FEWEST_ROUNDS = 4
"""Rounds that a power law is fitted to; with fewer its interval says nothing."""


class Interval(NamedTuple):
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def proportion(successes: int, n: int) -> Interval:
    """Of a proportion, after Wilson (JASA 1927): it stays within 0 and 1 and holds for small n. n is at least 1."""
    p, z2 = successes / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def paired_gain(before: Sequence[bool], after: Sequence[bool]) -> Interval:
    """The difference of two accuracies on the same images."""
    pairs = list(zip(before, after, strict=True))
    won, lost = sum(now and not then for then, now in pairs), sum(then and not now for then, now in pairs)
    return paired_difference(won, lost, len(pairs))


def paired_difference(won: int, lost: int, n: int) -> Interval:
    """(won - lost) / n with its score interval, after Tango (Statistics in Medicine 1998). n is at least 1.

    It has the differences that a score test does not reject. Where few images change it holds the true one 93 times of
    100 or more; the intervals of Agresti and Min (2005) and Newcombe (1998, method 10) hold it 87 times at worst.
    """
    gain = (won - lost) / n

    def outmost(end: float) -> float:
        inside, outside = gain, end
        for _ in range(HALVINGS):
            middle = (inside + outside) / 2
            if _is_rejected(middle, won, lost, n):
                outside = middle
            else:
                inside = middle
        return inside

    return Interval(gain, outmost(-1.0), outmost(1.0))


def _is_rejected(difference: float, won: int, lost: int, n: int) -> bool:
    """Whether the score test at LEVEL rejects this difference."""
    b = (2 * n - won + lost) * difference - won - lost
    free = difference * (1 - difference)
    share_lost = (math.sqrt(max(0.0, b * b + 8 * n * lost * free)) - b) / (4 * n)  # most likely, given the difference
    variance = n * (2 * share_lost + free)
    return (won - lost - n * difference) ** 2 > Z * Z * variance


def power_law(labels: Sequence[int], errors: Sequence[float], further: int) -> Interval | None:
    """The gain in accuracy that `further` labels are likely to bring, by error = a n^-b with a prediction interval.

    None where fewer than four rounds are there, an error is zero, or errors do not fall.
    """
    if len(labels) < FEWEST_ROUNDS or min(errors) <= 0 or len(set(labels)) < len(labels):
        return None
    from scipy.stats import t

    x, y = [math.log(n) for n in labels], [math.log(error) for error in errors]
    k, mean_x, mean_y = len(x), sum(x) / len(x), sum(y) / len(y)
    width = sum((each - mean_x) ** 2 for each in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / width
    if slope >= 0:
        return None
    residuals = [b - mean_y - slope * (a - mean_x) for a, b in zip(x, y, strict=True)]
    at = math.log(labels[-1] + further)
    variance = sum(each * each for each in residuals) / (k - 2)
    half = float(t.ppf(0.5 + LEVEL / 2, k - 2)) * math.sqrt(variance * (1 + 1 / k + (at - mean_x) ** 2 / width))
    predicted = mean_y + slope * (at - mean_x)
    value, low, high = (min(1.0, math.exp(each)) for each in (predicted, predicted + half, predicted - half))
    return Interval(errors[-1] - value, errors[-1] - low, errors[-1] - high)
