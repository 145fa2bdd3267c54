"""Budget curves drawn: accuracy against labels used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd

from fkal.config.method_spec import short_method_name
from fkal.plots.figure_text import figure_text, load_matplotlib
from fkal.plots.method_styles import BLACK, GREY, Style, method_styles
from fkal.results.curves import ACCURACY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

PAPER_TITLE = "epoch chosen on the TEST set (authors' rule)"
MANY = 8
"""Beyond so many curves the legend stands beside them."""


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
    styles = method_styles(curves)
    for method, frames in curves.items():
        by_seed = pd.concat([f.set_index("labels_used")[metric].rename(i) for i, f in enumerate(frames)], axis=1)
        draw_mean(axes, 100 * by_seed, styles[method], seeds_named(method, len(frames)))
    if baseline is not None:
        axes.axhline(100 * baseline, color=BLACK, linestyle=":", linewidth=1.2, label="all labels of the pool")
    _finish(axes, bands=any(len(frames) > 1 for frames in curves.values()))
    return figure


def draw_mean(axes: "Axes", by_seed: pd.DataFrame, style: Style, name: str, *, band: float = 0.15) -> None:
    """The mean over the columns (seeds, in %) against the index, with a band of one standard deviation if several.

    `band` is its opacity; it ends at 0 and 100 %.
    """
    colour, marker, line = style
    mean = by_seed.mean(axis=1)
    axes.plot(mean.index, mean, color=colour, marker=marker, linestyle=line, label=figure_text(name))
    if by_seed.shape[1] > 1:
        spread = by_seed.std(axis=1)
        low, high = (mean - spread).clip(lower=0), (mean + spread).clip(upper=100)
        axes.fill_between(mean.index, low, high, color=colour, alpha=band, linewidth=0)


def seeds_named(method: str, *seeds: int) -> str:
    """`pcc (5 seeds)`, `pcc (2 to 5 seeds)` where it has other numbers of them elsewhere, `pcc` of one seed."""
    fewest, most = min(seeds), max(seeds)
    name = short_method_name(method)
    if most == 1:
        return name
    return f"{name} ({most} seeds)" if fewest == most else f"{name} ({fewest} to {most} seeds)"


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
    style = method_styles([method])[method]
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
    load_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(figure_text(title), fontsize=11)
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
