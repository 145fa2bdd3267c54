"""Intervals against reference values and simulation."""

import math
import random

import pytest

from fkal.labeling.intervals import paired_gain, power_law, proportion


def test_wilsons_interval_has_its_published_values():
    """Newcombe, Statistics in Medicine 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = proportion(successes, n)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_a_gain_on_the_same_images_covers_the_true_one_nineteen_times_of_twenty():
    draws, held = random.Random(0), 0
    for _ in range(400):
        before = [draws.random() < 0.6 for _ in range(200)]
        after = [right if draws.random() < 0.8 else draws.random() < 0.75 for right in before]
        gain = paired_gain(before, after)
        held += gain.low <= 0.2 * (0.75 - 0.6) <= gain.high
    assert held >= 0.93 * 400


def test_images_that_both_have_right_make_a_gain_no_surer():
    gain = paired_gain([True] * 100, [True] * 100)
    assert gain.value == 0 and gain.low == pytest.approx(-0.005) and gain.high == pytest.approx(0.005)


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
