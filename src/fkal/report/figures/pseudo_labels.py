"""Class frequencies of the pool as a method estimates them, against the true ones."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fkal.config.method_spec import short_method_name
from fkal.plots.canvas import INK, canvas, legend_below, title_alone
from fkal.plots.figure_text import figure_text
from fkal.plots.method_styles import Style
from fkal.report.exhibit import Exhibit
from fkal.report.panels import Panel, with_class_names

ESTIMATED, TRUE = "prior/estimated_", "prior/true_"
LEAST = 1e-5
"""A share below it is drawn here: the axes are logarithmic."""


def prior_exhibit(panel: Panel, styles: Mapping[str, Style]) -> Exhibit:
    """A mark for each class and round, mean over seeds; on the diagonal the estimate is right."""
    from matplotlib.ticker import FuncFormatter

    name, title = f"prior-{panel.name}", f"{panel.title}: class frequencies of the pool"
    table = prior_frame(panel)
    if table.empty:
        return Exhibit(name, title, missing=f"{title}: no method here estimates them.")
    figure, axes = canvas()
    (each,) = axes.flat
    shares = 100 * table[["estimated", "true"]].clip(lower=LEAST)
    ends = [shares.min(axis=None), shares.max(axis=None)]
    each.plot(ends, ends, color=INK, linewidth=0.8, label="estimate = truth")
    for method in panel.methods:
        mine = shares[table["method"] == method]
        if len(mine):
            colour, marker, _ = styles[method]
            mark: Any = {"color": colour, "marker": marker, "linestyle": "", "alpha": 0.6}
            shown = figure_text(short_method_name(method))
            each.plot(mine["true"], mine["estimated"], label=shown, **mark)
    each.set_xscale("log")
    each.set_yscale("log")
    for axis in (each.xaxis, each.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    title_alone(each, panel.title)
    each.set_xlabel("share of the pool, %")
    each.set_ylabel("estimated share, %")
    legend_below(figure, axes)
    return Exhibit(
        name,
        title,
        "A mark is a class before one round's choice, mean over seeds. Below the diagonal a class is thought to be "
        f"rarer than it is.{panel.class_note(table['label'].nunique())}",
        figure=figure,
        numbers=table,
    )


def prior_frame(panel: Panel) -> pd.DataFrame:
    """One row per method, number of labels and class: `estimated` and `true` share, means over seeds."""
    classes = sorted(int(column.removeprefix(TRUE)) for column in panel.frame if str(column).startswith(TRUE))
    parts = [
        panel.frame[["method", "labels_used"]].assign(
            **{"label": k, "estimated": panel.frame[f"{ESTIMATED}{k}"], "true": panel.frame[f"{TRUE}{k}"]}
        )
        for k in classes
    ]
    if not parts:
        return pd.DataFrame(columns=["method", "labels_used", "label", "class", "estimated", "true"])
    known = pd.concat(parts).dropna()
    table = known.groupby(["method", "labels_used", "label"], as_index=False)[["estimated", "true"]].mean()
    return with_class_names(table, panel.class_names(len(classes)))
