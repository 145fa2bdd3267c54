"""The figure of class frequencies, from frames whose numbers are known."""

import pandas as pd
import pytest

from fkal.plots.canvas import style
from fkal.plots.method_styles import method_styles
from fkal.report.figures.pseudo_labels import LEAST, prior_exhibit
from fkal.report.panels import Panel
from fkal.results.outcome import Group

GROUP = Group("digits", "ir20", "last", 20, "test")


def panel(rows: list[dict]) -> Panel:
    frame = pd.DataFrame(rows)
    return Panel("digits-ir20", GROUP, frame, tuple(frame["method"].unique()), None, ())


def row(method: str, seed: int, labels: int, **shares: float) -> dict:
    return {"method": method, "seed": seed, "labels_used": labels, **{f"prior/{k}": v for k, v in shares.items()}}


SHOWN = panel(
    [
        row("ours", 0, 20, estimated_0=0.9, estimated_1=0.1, true_0=0.8, true_1=0.2),
        row("ours", 1, 20, estimated_0=0.7, estimated_1=0.3, true_0=0.8, true_1=0.2),
        row("ours", 0, 40, estimated_0=1.0, estimated_1=0.0, true_0=0.9, true_1=0.1),
        row("random", 0, 20),
    ]
)


def test_shares_are_means_over_seeds_of_the_methods_that_estimate_them():
    with style():
        exhibit = prior_exhibit(SHOWN, method_styles(SHOWN.methods))
    numbers = exhibit.numbers
    assert set(numbers["method"]) == {"ours"}
    first = numbers[numbers["labels_used"] == 20].set_index("label")
    assert first["estimated"].tolist() == pytest.approx([0.8, 0.2])
    assert first["true"].tolist() == pytest.approx([0.8, 0.2])
    assert numbers[numbers["labels_used"] == 40]["estimated"].tolist() == pytest.approx([1.0, 0.0])
    (axes,) = exhibit.figure.axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert set(drawn) == {"estimate = truth", "ours"}
    assert sorted(drawn["ours"].get_ydata()) == pytest.approx(sorted([80, 20, 100, 100 * LEAST]))


def test_where_no_method_estimates_them_it_is_said():
    plain = panel([row("random", 0, 20)])
    exhibit = prior_exhibit(plain, method_styles(plain.methods))
    assert exhibit.figure is None
    assert "no method here estimates them" in exhibit.missing
