"""Curves beside accuracy: what accuracy costs, and how right the pseudo-labels are."""

from collections.abc import Mapping

import pandas as pd

from fkal.edge.curves import count_labels, draw_mean, seeds_named
from fkal.edge.looks import Style
from fkal.edge.reporting.canvas import canvas, legend_below
from fkal.edge.reporting.exhibits import Exhibit
from fkal.edge.reporting.panels import Panel

COSTS = {"passes": "forward and backward passes of images", "seconds": "seconds"}
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
        each.plot(mine["cost"], mine["accuracy"], color=colour, marker=marker, linestyle=line, label=method)
    positive = table["cost"][table["cost"] > 0]
    if len(positive):
        each.set_xscale("symlog", linthresh=float(positive.min()))
    each.set_title(panel.title)
    each.set_xlabel(f"{COSTS[unit]} spent on choosing")
    each.set_ylabel(f"{panel.group.measured} accuracy, %")
    legend_below(figure, axes)
    return Exhibit(
        name,
        title,
        f"{COSTS[unit].capitalize()} of the acquisition alone, summed over the iterations so far; means over seeds. "
        "The axis is logarithmic, linear near 0: random choice costs no pass.",
        figure=figure,
        numbers=table,
    )


def cost_frame(panel: Panel, unit: str) -> pd.DataFrame:
    """One row a method and number of labels: cost so far and accuracy in %, means over seeds; empty without costs."""
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
    for each, (metric, label) in zip(axes.flat, present.items(), strict=True):
        for method in methods:
            by_seed = 100 * panel.by_seed(method, metric)
            if len(by_seed):
                draw_mean(each, by_seed, styles[method], seeds_named(method, by_seed.shape[1]), band=0.07)
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
