"""The axis of costs."""

import pytest

from fkal.report.figures.cost import cost_words, log_ticks


def test_a_few_decades_have_ticks_between_powers_of_ten_and_many_have_not():
    assert log_ticks(1000, 24000) == [1000, 2000, 5000, 10000, 20000]
    assert log_ticks(1, 2e4) == [1, 10, 100, 1000, 10000]


@pytest.mark.parametrize(
    ("cost", "words"), [(0, "0"), (0.2, "0.2"), (50, "50"), (2000, "2k"), (1.5e6, "1.5M"), (3 * 0.1, "0.3")]
)
def test_ticks_are_short_words(cost, words):
    assert cost_words(cost) == words
