"""A small picture for each method of a panel: what it labeled, and what it takes for what."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fkal.edge.reporting.canvas import canvas, hide_rest
from fkal.edge.reporting.exhibits import Exhibit
from fkal.edge.reporting.finished import Finished
from fkal.edge.reporting.panels import Panel
from fkal.engine.rounds import FEW_CLASSES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, SIDE = 4, 1.9  # pictures in a row; inches
PARTS = ("pool", "validation")
NEEDS_ROUNDS = "curves alone were read: the iterations themselves are needed"


def counts_exhibit(panel: Panel) -> Exhibit:
    """Class counts of the labeled set over iterations, beside those of pool and validation."""
    name, title = f"labeled-{panel.name}", f"{panel.title}: classes of the labeled set"
    reason = _missing(panel)
    if reason:
        return Exhibit(name, title, missing=f"{title}: {reason}.")
    table = counts_frame(panel)
    return Exhibit(
        name,
        title,
        "Share of each class among the labels used so far, mean over seeds; the last two bars are the pool (P) and the "
        "validation set (V). Classes from the bottom up; hatched: rare in the pool.",
        figure=_counts_figure(panel, table),
        numbers=table,
        wide=True,
    )


def counts_frame(panel: Panel) -> pd.DataFrame:
    """One row a method (or `pool`, `validation`), number of labels and class: images, the mean over seeds."""
    rows = []
    for each in panel.finished:
        for b in each.outcome.rounds:
            rows += [(each.outcome.method, b.labels_used, k, n) for k, n in enumerate(b.labeled_counts)]
        parts = each.split.class_counts if each.split else {}
        for part in PARTS:
            rows += [(part, 0, k, n) for k, n in enumerate(parts.get(part, ()))]
    table = pd.DataFrame(rows, columns=["method", "labels_used", "class", "images"])
    return table.groupby(["method", "labels_used", "class"], as_index=False)["images"].mean()


def confusion_exhibit(panel: Panel) -> Exhibit:
    name, title = f"confusion-{panel.name}", f"{panel.title}: what is taken for what"
    reason = _missing(panel)
    if reason:
        return Exhibit(name, title, missing=f"{title}: {reason}.")
    matrices = {method: confusion(panel.experiments(method)) for method in panel.methods}
    return Exhibit(
        name,
        title,
        "Confusion after the last label, all seeds together: rows are true classes, columns predicted ones; the share "
        "of a row, on a scale that shows errors (power 0.4). Counts are in the CSV.",
        figure=_confusion_figure(matrices),
        numbers=_confusion_frame(matrices),
        wide=True,
    )


def confusion(experiments: list[Finished]) -> np.ndarray:
    """Counts (true, predicted) after the last iteration, summed over seeds."""
    return np.sum([each.outcome.rounds[-1].confusion.numpy() for each in experiments], axis=0)


def _missing(panel: Panel) -> str:
    if not panel.finished:
        return NEEDS_ROUNDS
    classes = len(panel.finished[0].outcome.rounds[0].labeled_counts)
    return f"{classes} classes are too many to be told apart by eye" if classes > FEW_CLASSES else ""


def _counts_figure(panel: Panel, table: pd.DataFrame) -> "Figure":
    from matplotlib import colormaps

    methods = list(panel.methods)
    rows = -(-len(methods) // COLUMNS)
    figure, axes = canvas(rows, COLUMNS, width=COLUMNS * SIDE, height=rows * SIDE, sharey=True)
    split = panel.finished[0].split
    rare = split.rare if split else ()
    n_classes = int(table["class"].max()) + 1
    colours = colormaps["cividis"](np.linspace(0, 1, n_classes))
    ends = [part for part in PARTS if part in set(table["method"])]
    for each, method in zip(hide_rest(axes, len(methods)), methods, strict=False):
        own = _shares(table[table["method"] == method])
        parts = [_shares(table[table["method"] == part]) for part in ends]
        edges, heights = _steps(own, parts)
        below = np.zeros(len(edges))
        for k in range(n_classes):
            hatch = "////" if k in rare else None
            above = below + heights[k]
            each.fill_between(edges, below, above, color=colours[k], hatch=hatch, edgecolor="white", linewidth=0.2)
            below = above
        places = [*range(1, len(own) + 1), *(len(own) + 2 + i for i in range(len(parts)))]
        each.set_title(method, fontsize=7.5)
        each.grid(False)
        names = [str(b) if b % 3 == 1 else "" for b in range(1, len(own) + 1)]
        each.set_xticks(places, [*names, *(part[0].upper() for part in ends)], fontsize=7)
        each.set_xlabel("iteration b", fontsize=7.5)
    for each in axes[:, 0]:
        each.set_ylabel("share, %", fontsize=8)
    return figure


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    table = counts.pivot(index="labels_used", columns="class", values="images")
    return table.div(table.sum(axis=1), axis=0)


def _steps(own: pd.DataFrame, parts: list[pd.DataFrame]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Both edges of each bar, a gap before those of the parts, and the heights there in % by class."""
    n = len(own)
    centers = [*range(1, n + 1), n + 1, *(n + 2 + i for i in range(len(parts)))]
    edges = np.ravel([(center - 0.45, center + 0.45) for center in centers])
    gap = np.full((1, own.shape[1]), np.nan)
    shares = np.concatenate([own.to_numpy(), gap, *(part.to_numpy() for part in parts)])
    return edges, list(100 * np.repeat(shares, 2, axis=0).T)


def _confusion_figure(matrices: Mapping[str, np.ndarray]) -> "Figure":
    from matplotlib.colors import PowerNorm

    rows = -(-len(matrices) // COLUMNS)
    figure, axes = canvas(rows, COLUMNS, width=COLUMNS * SIDE, height=rows * (SIDE + 0.1))
    used = hide_rest(axes, len(matrices))
    norm = PowerNorm(0.4, 0, 100)
    for each, (method, matrix) in zip(used, matrices.items(), strict=True):
        total = matrix.sum(axis=1, keepdims=True)
        shares = np.divide(100 * matrix, total, out=np.zeros(matrix.shape), where=total > 0)
        drawn = each.pcolormesh(shares, norm=norm, cmap="cividis", rasterized=True)
        each.invert_yaxis()
        each.set_aspect("equal")
        each.grid(False)
        each.set_title(method, fontsize=7.5)
        ticks = range(0, len(matrix), 1 + len(matrix) // 6)
        each.set_xticks([k + 0.5 for k in ticks], [str(k) for k in ticks], fontsize=7)
        each.set_yticks([k + 0.5 for k in ticks], [str(k) for k in ticks], fontsize=7)
    bar = figure.colorbar(drawn, ax=used, shrink=0.6, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("of the true class, %", fontsize=8)
    return figure


def _confusion_frame(matrices: Mapping[str, np.ndarray]) -> pd.DataFrame:
    rows = [
        (method, true, predicted, int(n))
        for method, matrix in matrices.items()
        for (true, predicted), n in np.ndenumerate(matrix)
    ]
    return pd.DataFrame(rows, columns=["method", "true", "predicted", "images"])
