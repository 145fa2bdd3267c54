"""Labels needed to reach accuracies, drawn: a mark a method with its interval."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from fkal.plots.canvas import broken, canvas
from fkal.plots.curves import count_labels
from fkal.plots.method_styles import Style
from fkal.report.format import percent
from fkal.report.panels import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, ROW, MARGIN = 2.6, 0.3, 0.9  # inches: of an accuracy, of a method, of what stands around them

TICKS = 4  # of so small an axis, whose numbers would touch each other


def needed_figure(panel: Panel, needed: pd.DataFrame, styles: Mapping[str, Style]) -> "Figure | None":
    """Axes for each accuracy, with the methods whose seeds all get there; None where no method's do.

    An upper bound is a hollow mark with a dotted line towards 0.
    """
    from matplotlib.ticker import MaxNLocator

    known = needed.dropna(subset=["labels"])
    if known.empty:
        return None
    accuracies, methods = list(needed["accuracy"].unique()), list(panel.methods)[::-1]
    height = MARGIN + ROW * len(methods)
    figure, axes = canvas(1, len(accuracies), width=SIDE * len(accuracies) + 1, height=height, sharey=True)
    for each, accuracy in zip(axes.flat, accuracies, strict=True):
        for row in known[known["accuracy"] == accuracy].to_dict("records"):
            colour, marker, _ = styles[row["method"]]
            y = methods.index(row["method"])
            filled = {"markerfacecolor": "none"} if row["at_most"] else {}
            each.plot([row["labels"]], [y], color=colour, marker=marker, linestyle="", **filled)
            if row["at_most"]:
                each.plot([0, row["labels"]], [y, y], color=colour, linewidth=1.0, linestyle=":")
            if pd.notna(row["low"]):
                each.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.2)
        each.set_title(f"{percent(accuracy)} %", fontsize=9)
        each.set_xlabel("labels needed")
        each.set_xlim(0, 1.05 * float(panel.frame["labels_used"].max()))
        count_labels(each)
        each.xaxis.set_major_locator(MaxNLocator(TICKS, integer=True))
    axes.flat[0].set_yticks(range(len(methods)), [broken(method) for method in methods], fontsize=7)
    axes.flat[0].set_ylim(-0.6, len(methods) - 0.4)
    return figure
