"""Budget curves: accuracy against labels used, as a table, as single numbers, as a figure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd

from fkal.engine.rounds import FEW_CLASSES, Round
from fkal.plots.palette import BLACK, GREY, Style, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

ACCURACY = "test/accuracy"
PAPER_TITLE = "epoch chosen on the TEST set (authors' rule)"
REACHED = 0.9

MANY = 8
"""Beyond so many curves the legend stands beside them."""


def curve_frame(rounds: Sequence[Round]) -> pd.DataFrame:
    """One row an iteration: b, labels_used, the metrics by name and, of few classes, the accuracy of each."""
    rows = [
        {"b": r.b, "labels_used": r.labels_used, **dict(sorted(r.metrics.items())), **class_accuracies(r)}
        for r in rounds
    ]
    return pd.DataFrame(rows, columns=None if rows else ["b", "labels_used"])


def class_accuracies(finished: Round) -> dict[str, float]:
    """`test/class_0`, ... where there are few classes; one without measured images is left out."""
    counts = finished.confusion.sum(dim=1).tolist()
    if len(counts) > FEW_CLASSES:
        return {}
    right = finished.confusion.diagonal().tolist()
    return {
        f"{finished.measured}/class_{k}": hits / n for k, (hits, n) in enumerate(zip(right, counts, strict=True)) if n
    }


def area_under_budget_curve(labels: Sequence[int], accuracies: Sequence[float]) -> float:
    """The mean accuracy over the budget: the trapezoid area over labels used / the range of labels used.

    With a single iteration it is that one's accuracy. Comparable between runs of one schedule of labels.
    """
    if len(labels) == 1:
        return float(accuracies[0])
    points = list(zip(labels, accuracies, strict=True))
    area = sum((n1 - n0) * (a0 + a1) / 2 for (n0, a0), (n1, a1) in pairwise(points))
    return float(area / (labels[-1] - labels[0]))


def labels_to_reach(accuracy: float, labels: Sequence[int], accuracies: Sequence[float]) -> float | None:
    """The fewest labels with this accuracy, interpolated between iterations; None if it is never reached."""
    points = list(zip(labels, accuracies, strict=True))
    if points and points[0][1] >= accuracy:
        return float(points[0][0])
    for (n0, a0), (n1, a1) in pairwise(points):
        if a1 >= accuracy:
            return n0 + (n1 - n0) * (accuracy - a0) / (a1 - a0)
    return None


def curve_figure(
    curves: Mapping[str, Sequence[pd.DataFrame]],
    title: str,
    *,
    metric: str = ACCURACY,
    label: str = "test accuracy, %",
    baseline: float | None = None,
) -> "Figure":
    """Each method's mean over its seeds, with a band of one standard deviation where there are several.

    `baseline` is the accuracy with every label of the pool, a dotted line.
    """
    figure, axes = _panel(title, label)
    styles = looks(curves)
    for method, frames in curves.items():
        by_seed = pd.concat([f.set_index("labels_used")[metric].rename(i) for i, f in enumerate(frames)], axis=1)
        draw_mean(axes, 100 * by_seed, styles[method], seeds_named(method, len(frames)))
    if baseline is not None:
        axes.axhline(100 * baseline, color=BLACK, linestyle=":", linewidth=1.2, label="all labels of the pool")
    _finish(axes, bands=any(len(frames) > 1 for frames in curves.values()))
    return figure


def draw_mean(axes: "Axes", by_seed: pd.DataFrame, style: Style, name: str, *, band: float = 0.15) -> None:
    """The mean over the columns (seeds) against the index, with a band of one standard deviation if there are several.

    `band` is its opacity.
    """
    colour, marker, line = style
    mean = by_seed.mean(axis=1)
    axes.plot(mean.index, mean, color=colour, marker=marker, linestyle=line, label=name)
    if by_seed.shape[1] > 1:
        spread = by_seed.std(axis=1)
        axes.fill_between(mean.index, mean - spread, mean + spread, color=colour, alpha=band, linewidth=0)


def seeds_named(method: str, *seeds: int) -> str:
    """`pcc (5 seeds)`, `pcc (2 to 5 seeds)` where it has other numbers of them elsewhere, `pcc` of one seed."""
    fewest, most = min(seeds), max(seeds)
    if most == 1:
        return method
    return f"{method} ({most} seeds)" if fewest == most else f"{method} ({fewest} to {most} seeds)"


def save_curve_png(
    target: Path | IO[bytes],
    curves: Mapping[str, Sequence[pd.DataFrame]],
    title: str,
    *,
    metric: str = ACCURACY,
    label: str = "test accuracy, %",
    baseline: float | None = None,
) -> None:
    _canvas(curve_figure(curves, title, metric=metric, label=label, baseline=baseline)).print_png(target)


def save_run_png(path: Path, frame: pd.DataFrame, title: str, method: str) -> None:
    """One run: accuracy on test (or on what is held out) and validation."""
    figure, axes = _panel(title, "accuracy, %")
    style = looks([method])[method]
    parts = {
        ACCURACY: ("test", style),
        "holdout/accuracy": ("held out", style),
        "val/accuracy": ("validation", (GREY, ".", ":")),
    }
    for metric, (name, (colour, marker, line)) in parts.items():
        if metric in frame:
            labels, accuracy = frame["labels_used"], 100 * frame[metric]
            axes.plot(labels, accuracy, color=colour, marker=marker, linestyle=line, label=name)
    _finish(axes, bands=False)
    _canvas(figure).print_png(path)


def _canvas(figure: "Figure") -> "FigureCanvasAgg":
    """Prints what `figure.savefig` prints, which draws each figure twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure)


def _panel(title: str, label: str) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("labels used")
    axes.set_ylabel(label)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(axes: "Axes", *, bands: bool) -> None:
    count_labels(axes)
    if axes.get_legend_handles_labels()[0]:
        title = "mean, band of ±1 standard deviation" if bands else None
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(axes.lines) > MANY else {"loc": "best"}
        axes.legend(frameon=False, fontsize=9, title=title, title_fontsize=8, **beside)


def count_labels(axes: "Axes") -> None:
    """Whole numbers along x, thousands set apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda labels, _: f"{labels:,.0f}"))
