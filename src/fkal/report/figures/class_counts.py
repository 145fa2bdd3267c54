"""A small picture for each method of a panel: what it labeled, and what it takes for what."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fkal.engine.settings import FEW_CLASSES
from fkal.plots.canvas import INK, PAPER, SMALL_COLUMNS, SMALL_SIDE, broken, key_below, small_canvas
from fkal.plots.class_colours import class_colours, ink_on
from fkal.plots.figure_text import figure_text
from fkal.report.exhibit import Exhibit
from fkal.report.experiments import Finished, SplitFacts
from fkal.report.panels import Panel, with_class_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = ("pool", "validation")
HATCH = "//////"
SHORT_NAME, LONG_NAME = 2, 14
"""Letters of a class that are written level along x, and that are written at all."""
MOST_NAMES = 10
"""Names of classes along an axis."""
NEEDS_ROUNDS = "curves alone were read: the rounds themselves are needed"


def counts_exhibit(panel: Panel) -> Exhibit:
    """Class counts of the labeled set over rounds, beside those of pool and validation."""
    name, title = f"labeled-{panel.name}", f"{panel.title}: classes of the labeled set"
    reason = _missing(panel)
    if reason:
        return Exhibit(name, title, missing=f"{title}: {reason}.")
    table, rare = counts_frame(panel), rare_in_pool(panel.finished)
    return Exhibit(
        name,
        title,
        _counts_caption(panel, table, rare),
        figure=_counts_figure(panel, table, rare),
        numbers=table,
        wide=True,
    )


def counts_frame(panel: Panel) -> pd.DataFrame:
    """One row per method (or `pool`, `validation`), number of labels and class: images, the mean over seeds."""
    rows = []
    for each in panel.finished:
        for b in each.outcome.rounds:
            rows += [(each.outcome.method, b.labels_used, k, n) for k, n in enumerate(b.labeled_counts)]
        parts = each.split.class_counts if each.split else {}
        for part in PARTS:
            rows += [(part, 0, k, n) for k, n in enumerate(parts.get(part, ()))]
    table = pd.DataFrame(rows, columns=["method", "labels_used", "label", "images"])
    means = table.groupby(["method", "labels_used", "label"], as_index=False)["images"].mean()
    return with_class_names(means, panel.class_names(int(means["label"].max()) + 1))


def confusion_exhibit(panel: Panel) -> Exhibit:
    name, title = f"confusion-{panel.name}", f"{panel.title}: what is taken for what"
    reason = _missing(panel)
    if reason:
        return Exhibit(name, title, missing=f"{title}: {reason}.")
    matrices = {method: confusion(panel.experiments(method)) for method in panel.methods}
    n = len(matrices[panel.methods[0]])
    classes = panel.class_names(n)
    return Exhibit(
        name,
        title,
        "Confusion after the last label, all seeds together: rows are true classes, columns predicted ones; the share "
        "of a row, on a scale that shows errors (power 0.4). Counts are in the CSV." + panel.class_note(n),
        figure=_confusion_figure(matrices, classes),
        numbers=_confusion_frame(matrices, classes),
        wide=True,
    )


def confusion(experiments: list[Finished]) -> np.ndarray:
    """Counts (true, predicted) after the last round, summed over seeds."""
    return np.sum([each.outcome.rounds[-1].confusion.numpy() for each in experiments], axis=0)


def _counts_caption(panel: Panel, table: pd.DataFrame, rare: Collection[int]) -> str:
    """Speaks of no more than is drawn: without a split's file there are no bars of its parts."""
    last = "; the last two bars are the pool (P) and the validation set (V)" if _parts(table) else ""
    hatched = " Hatched: classes that are rare in the pool." if rare else ""
    n = int(table["label"].max()) + 1
    return (
        f"Share of each class among the labels used so far, mean over seeds{last}. The first class, "
        f"{panel.class_names(n)[0]}, is at the bottom.{hatched}{panel.class_note(n)}"
    )


def _missing(panel: Panel) -> str:
    if not panel.finished:
        return NEEDS_ROUNDS
    classes = len(panel.finished[0].outcome.rounds[0].labeled_counts)
    return f"{classes} classes are too many to be told apart by eye" if classes > FEW_CLASSES else ""


def _counts_figure(panel: Panel, table: pd.DataFrame, rare: Collection[int]) -> "Figure":
    figure, axes = small_canvas(len(panel.methods), sharey=True)
    ends = [_shares(table[table["method"] == part]) for part in _parts(table)]
    for each, method in zip(axes, panel.methods, strict=True):
        own = _shares(table[table["method"] == method])
        _stack(each, pd.concat([own, *ends]), _places(len(own), len(ends)), rare)
        names = [str(b) if b % 3 == 1 else "" for b in range(1, len(own) + 1)]
        each.set_xticks(_places(len(own), len(ends)), [*names, *(part[0].upper() for part in _parts(table))])
        _describe(each, method, "round b", "")
    for row in axes[::SMALL_COLUMNS]:
        row.set_ylabel("share, %", fontsize=8)
    key_below(figure, _class_patches(panel.class_names(int(table["label"].max()) + 1), rare))
    return figure


def _parts(table: pd.DataFrame) -> list[str]:
    return [part for part in PARTS if part in set(table["method"])]


def _places(iterations: int, parts: int) -> list[int]:
    """Of the bars: a gap stands before those of the parts."""
    return [*range(1, iterations + 1), *(iterations + 2 + i for i in range(parts))]


def _stack(axes: "Axes", shares: pd.DataFrame, places: Sequence[int], rare: Collection[int]) -> None:
    """A bar each place, the first class at the bottom."""
    below = np.zeros(len(shares))
    for k, colour in enumerate(class_colours(shares.shape[1])):
        heights = 100 * shares[k].to_numpy()
        axes.bar(places, heights, 0.92, below, linewidth=0, **_filling(colour, k in rare))
        below = below + heights


def _filling(colour: str, is_rare: bool) -> dict[str, Any]:
    return {"facecolor": colour, "edgecolor": ink_on(colour), "hatch": HATCH if is_rare else None}


def _class_patches(classes: Sequence[str], rare: Collection[int]) -> list["Artist"]:
    """The key: classes, and what a hatch means."""
    from matplotlib.patches import Patch

    named = zip(classes, class_colours(len(classes)), strict=True)
    patches = [
        Patch(linewidth=0, label=figure_text(clipped(name)), **_filling(colour, k in rare))
        for k, (name, colour) in enumerate(named)
    ]
    hatched = [Patch(facecolor=PAPER, edgecolor=INK, hatch=HATCH, linewidth=0.5, label="rare")] if rare else []
    return [*patches, *hatched]


def rare_in_pool(finished: Iterable[Finished]) -> set[int]:
    """The classes that every split names rare and cuts: at most half as many images as one of the others, on average.

    A split names classes also where a ratio of 1 leaves them whole.
    """
    splits = [each.split for each in finished if each.split]
    return set.intersection(*(_scarce(split) for split in splits)) if splits else set()


def _scarce(split: SplitFacts) -> set[int]:
    counts = split.class_counts.get("pool", ())
    others = [n for k, n in enumerate(counts) if k not in split.rare]
    return {k for k in split.rare if k < len(counts) and others and 2 * counts[k] <= np.mean(others)}


def _shares(counts: pd.DataFrame) -> pd.DataFrame:
    table = counts.pivot(index="labels_used", columns="label", values="images")
    return table.div(table.sum(axis=1), axis=0)


def _confusion_figure(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> "Figure":
    from matplotlib.colors import PowerNorm

    figure, axes = small_canvas(len(matrices), side=SMALL_SIDE + 0.15)
    norm = PowerNorm(0.4, 0, 100)
    names = [figure_text(clipped(name)) for name in classes]
    ticks = _ticks(names)
    turned: Any = {"rotation": 90} if max(map(len, names)) > SHORT_NAME else {}
    for each, (method, matrix) in zip(axes, matrices.items(), strict=True):
        total = matrix.sum(axis=1, keepdims=True)
        shares = np.divide(100 * matrix, total, out=np.zeros(matrix.shape), where=total > 0)
        drawn = each.pcolormesh(shares, norm=norm, cmap="cividis", rasterized=True)
        each.invert_yaxis()
        each.set_aspect("equal")
        each.set_xticks([k + 0.5 for k in ticks], [names[k] for k in ticks], **turned)
        each.set_yticks([k + 0.5 for k in ticks], [names[k] for k in ticks])
        _describe(each, method, "predicted class", "true class")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("of the true class, %", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _ticks(names: Sequence[str]) -> range:
    """Numbers follow from each other, so some are enough; of names each is needed as long as there is room."""
    n = len(names)
    if all(name == str(k) for k, name in enumerate(names)):
        return range(0, n, 1 + n // 6)
    return range(0, n, 1 + n // (MOST_NAMES + 1))


def clipped(name: str) -> str:
    """A class's name that fits beside a small picture."""
    return name if len(name) <= LONG_NAME else f"{name[: LONG_NAME - 1]}…"


def _describe(axes: "Axes", method: str, x: str, y: str) -> None:
    axes.set_title(broken(method), fontsize=7.5)
    axes.set_xlabel(x, fontsize=7.5)
    axes.set_ylabel(y, fontsize=7.5)
    axes.tick_params(labelsize=7)
    axes.grid(False)


def _confusion_frame(matrices: Mapping[str, np.ndarray], classes: Sequence[str]) -> pd.DataFrame:
    """A row per method, true and predicted class (each a number and a name)."""
    rows = [
        (method, true, predicted, int(n))
        for method, matrix in matrices.items()
        for (true, predicted), n in np.ndenumerate(matrix)
    ]
    table = pd.DataFrame(rows, columns=["method", "true", "predicted", "images"])
    table = with_class_names(table, classes, "predicted", "predicted_class")
    return with_class_names(table, classes, "true", "true_class")
