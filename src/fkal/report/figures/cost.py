"""Curves beside accuracy: what accuracy costs, and how right the pseudo-labels are."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import pandas as pd

from fkal.config.method_spec import short_method_name
from fkal.plots.canvas import canvas, legend_below, title_alone
from fkal.plots.curves import count_labels, draw_mean, seeds_named
from fkal.plots.figure_text import figure_text
from fkal.plots.method_styles import Style
from fkal.report.exhibit import Exhibit
from fkal.report.panels import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {"passes": "images passed forward or backward", "seconds": "seconds"}
LETTERS = {1e6: "M", 1e3: "k", 1: ""}
WIDE = 10
"""Costs that are so many times each other need a logarithmic axis."""
FEW_DECADES = 3
"""So many have room for ticks between the powers of ten."""
PSEUDO = {
    "pseudo/accuracy": "accuracy, %",
    "pseudo/minority_precision": "precision, rare classes, %",
    "pseudo/minority_recall": "recall, rare classes, %",
}


def cost_exhibit(panel: Panel, styles: Mapping[str, Style], unit: str) -> Exhibit:
    """Accuracy against what choosing the images has cost so far, in a unit of `COSTS`."""
    name, title = f"cost-{unit}-{panel.name}", f"{panel.title}: accuracy by {unit} of acquisition"
    table = cost_frame(panel, unit)
    if table.empty:
        return Exhibit(name, title, missing=f"{title}: no {unit} are in what was read.")
    figure, axes = canvas()
    (each,) = axes.flat
    for method in panel.methods:
        mine = table[table["method"] == method]
        colour, marker, line = styles[method]
        shown = figure_text(short_method_name(method))
        each.plot(mine["cost"], mine["accuracy"], color=colour, marker=marker, linestyle=line, label=shown)
    is_log = _scale(each, table["cost"])
    title_alone(each, panel.title)
    each.set_xlabel(f"{COSTS[unit]} to choose")
    each.set_ylabel(f"{panel.group.measured} accuracy, %")
    legend_below(figure, axes)
    return Exhibit(
        name,
        title,
        f"{COSTS[unit].capitalize()} for the acquisition alone, summed over the rounds so far; means over seeds."
        + is_log * " The axis is logarithmic, linear near 0.",
        figure=figure,
        numbers=table,
    )


def _scale(axes: "Axes", costs: pd.Series) -> bool:
    """Whether it is logarithmic, as where the costs span a decade; the axis' name says the unit of its ticks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = costs[costs > 0].min(), costs.max()
    is_log = bool(high >= WIDE * low)
    if is_log:
        start = 10 ** floor(log10(low))
        axes.set_xscale("symlog", linthresh=start, linscale=0.5)
        axes.xaxis.set_major_locator(FixedLocator([0, *log_ticks(start, high)]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: cost_words(cost)))
    return is_log


def log_ticks(start: float, high: float) -> list[float]:
    """From a power of ten on: 1, 2 and 5 of each decade; of many decades 1 alone."""
    decades = ceil(log10(high / start))
    steps = (1, 2, 5) if decades <= FEW_DECADES else (1,)
    ticks = [step * start * 10**k for k in range(decades + 1) for step in steps]
    return [tick for tick in ticks if tick <= high]


def cost_words(cost: float) -> str:
    """`20k`, `1.5M`."""
    size, letter = next(((size, letter) for size, letter in LETTERS.items() if cost >= size), (1, ""))
    return f"{cost / size:.4g}{letter}"


def cost_frame(panel: Panel, unit: str) -> pd.DataFrame:
    """One row per method and number of labels: cost so far and accuracy in %, means over seeds; empty without costs."""
    columns = ["method", "labels_used", "cost", "accuracy"]
    if f"acquisition_{unit}" not in panel.frame:
        return pd.DataFrame(columns=columns)
    known = panel.frame.dropna(subset=[f"acquisition_{unit}"]).sort_values("b")
    spent = known.groupby(["method", "seed"])[f"acquisition_{unit}"].cumsum()
    rows = known.assign(cost=spent, accuracy=100 * known[panel.accuracy])[columns]
    return rows.groupby(["method", "labels_used"], as_index=False)[["cost", "accuracy"]].mean()


def pseudo_exhibit(panel: Panel, styles: Mapping[str, Style]) -> Exhibit:
    """How many pseudo-labels of the pool are right, and of those that name a rare class, before each choice."""
    name, title = f"pseudo-{panel.name}", f"{panel.title}: pseudo-labels"
    present = {metric: label for metric, label in PSEUDO.items() if metric in panel.frame}
    methods = [m for m in panel.methods if present and panel.of(m)[list(present)].notna().any(axis=None)]
    if not methods:
        return Exhibit(name, title, missing=f"{title}: no method here makes any.")
    figure, axes = canvas(1, len(present), width=2.6 * len(present), height=2.7, sharey=True)
    tables = {(method, metric): 100 * panel.by_seed(method, metric) for method in methods for metric in present}
    known = {key: by_seed for key, by_seed in tables.items() if len(by_seed)}
    names = {m: seeds_named(m, *(table.shape[1] for (of, _), table in known.items() if of == m)) for m in methods}
    for each, (metric, label) in zip(axes.flat, present.items(), strict=True):
        for method in methods:
            if (method, metric) in known:
                draw_mean(each, known[method, metric], styles[method], names[method], band=0.07)
        each.set_title(label, fontsize=9)
        each.set_xlabel("labels used")
        count_labels(each)
    legend_below(figure, axes)
    return Exhibit(
        name,
        title,
        "Against the pool's true labels, which no method but the limit pfk_true sees; mean over seeds, band of one "
        "standard deviation.",
        figure=figure,
        numbers=_pseudo_frame(panel, methods, list(present)),
        wide=True,
    )


def _pseudo_frame(panel: Panel, methods: list[str], metrics: list[str]) -> pd.DataFrame:
    """Means over seeds, in %."""
    mine = panel.frame[panel.frame["method"].isin(methods)]
    means = 100 * mine.groupby(["method", "labels_used"])[metrics].mean()
    return means.rename(columns=lambda name: name.removeprefix("pseudo/")).reset_index()
