"""Panels over one legend."""

import pandas as pd

from fkal.report.figures.accuracy import accuracy_figure
from fkal.report.panels import Panel
from fkal.results.outcome import Group


def panel(bias: str, seeds: dict[str, int]) -> Panel:
    rows = [
        {"method": method, "seed": seed, "labels_used": labels, "test/accuracy": 0.5 + labels / 1000 + seed / 100}
        for method, count in seeds.items()
        for seed in range(count)
        for labels in (100, 200)
    ]
    return Panel(f"digits-{bias}", Group("digits", bias, "last", 100), pd.DataFrame(rows), tuple(seeds), {}, ())


def test_a_method_stands_once_in_the_legend_however_many_seeds_each_panel_has_of_it():
    styles = {"pcc": ("#000000", "o", "-"), "random": ("#767676", "s", "-"), "varr": ("#0072B2", "^", "--")}
    figure = accuracy_figure(
        [panel("ir20", {"pcc": 5, "random": 2}), panel("ir1", {"pcc": 3, "random": 2, "varr": 1})], styles
    )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["pcc (3 to 5 seeds)", "random (2 seeds)", "varr"]
