"""Intervals against reference values and simulation."""

import functools
import math

import pytest

from fkal.labeling.intervals import paired_difference, paired_gain, power_law, proportion


def test_wilsons_interval_has_its_published_values():
    """Newcombe, Statistics in Medicine 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = proportion(successes, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_tangos_interval_has_its_published_values():
    """Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables, 2017, chapter 8: Bentur, and Cavo."""
    for won, lost, n, low, high in ((7, 1, 21, 0.026, 0.517), (16, 6, 161, 0.0054, 0.1240)):
        found = paired_difference(won, lost, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4 if n < 100 else 5e-5)


def _coverage(n, fixed, broken, intervals):
    """How often the interval holds the true gain if each image is fixed or broken with these probabilities. Exact."""
    held = 0.0
    for won in _likely(n * fixed, n):
        for lost in _likely(n * broken, n - won):
            interval = intervals(won, lost, n)
            if interval.low - 1e-9 <= fixed - broken <= interval.high + 1e-9:
                held += _multinomial((won, lost, n - won - lost), (fixed, broken, 1 - fixed - broken))
    return held


def _likely(mean, most):
    """Counts of this mean but those that are less likely than one in a million."""
    reach = 5 * math.sqrt(mean) + 10 * (mean > 0)
    return range(max(0, math.floor(mean - reach)), min(most, math.ceil(mean + reach)) + 1)


def _multinomial(counts, shares):
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return 0.0
    logs = [
        count * math.log(share) - math.lgamma(count + 1) for count, share in zip(counts, shares, strict=True) if share
    ]
    return math.exp(math.lgamma(sum(counts) + 1) + sum(logs))


@pytest.mark.parametrize("n", [20, 60, 100, 200, 1000])
def test_a_gain_on_the_same_images_covers_the_true_one_also_where_few_change(n):
    intervals = functools.cache(paired_difference)
    few = [(0.005, 0), (0.01, 0), (0.02, 0), (0.03, 0), (0, 0.01), (0.01, 0.01), (0.02, 0.01), (0.03, 0.02)]
    for fixed, broken in [*few, (0.05, 0), (0.1, 0.05)]:
        assert _coverage(n, fixed, broken, intervals) > 0.93


def test_a_gain_counts_what_was_won_and_lost():
    before, after = [True] * 50 + [False] * 30, [True] * 47 + [False] * 3 + [True] * 10 + [False] * 20
    assert paired_gain(before, after) == paired_difference(10, 3, 80)
    lost = paired_difference(3, 10, 80)
    assert (-lost.high, -lost.low) == pytest.approx(paired_difference(10, 3, 80)[1:])


@pytest.mark.parametrize("n", [1, 5, 100, 400])
def test_a_gain_on_images_of_which_none_changed_is_as_sure_as_a_share_of_none(n):
    none_changed = paired_gain([True] * n, [True] * n)
    assert none_changed.value == 0 and none_changed.high == pytest.approx(proportion(0, n).high)
    assert none_changed.low == pytest.approx(-none_changed.high)
    assert paired_gain([False] * n, [True] * n)[::2] == (1, 1)


def test_an_exact_power_law_is_found_again():
    labels = [50, 100, 200, 400]
    errors = [2 * n**-0.5 for n in labels]
    found = power_law(labels, errors, 400)
    assert found is not None
    assert found.value == pytest.approx(2 * (400**-0.5 - 800**-0.5))
    assert found.low == pytest.approx(found.value) and found.high == pytest.approx(found.value)


def test_noise_widens_the_forecast():
    labels, errors = [50, 100, 200, 400], [0.30, 0.19, 0.16, 0.09]
    found = power_law(labels, errors, 100)
    assert found is not None and found.low < found.value < found.high
    assert math.isfinite(found.low)


@pytest.mark.parametrize(
    ("labels", "errors"),
    [([10, 20, 30], [0.3, 0.2, 0.1]), ([10, 20, 30, 40], [0.1, 0.2, 0.3, 0.4]), ([10, 20, 30, 40], [0.3, 0.2, 0.1, 0])],
)
def test_without_four_rounds_of_falling_errors_nothing_is_forecast(labels, errors):
    assert power_law(labels, errors, 10) is None
