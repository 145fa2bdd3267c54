"""Accuracy against labels used, the paper's Fig. 4 and 5: of all images, of the rare classes, of the worst class."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from fkal.plots.canvas import HEIGHT, WIDTH, canvas, legend_below, title_alone
from fkal.plots.curves import count_labels, draw_mean, seeds_named
from fkal.plots.method_styles import BLACK, Style
from fkal.report.exhibit import Exhibit
from fkal.report.figures.published import published_curve
from fkal.report.panels import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACIES = {
    "accuracy": "accuracy",
    "macro_accuracy": "balanced accuracy",
    "minority_accuracy": "accuracy of the rare classes",
    "worst_class_accuracy": "accuracy of the worst class",
}
BAND, FAINT_BAND, FEW = 0.15, 0.07, 6
"""Opacity of the bands, of up to a few methods and of more."""


def accuracy_exhibits(panel: Panel, styles: Mapping[str, Style], score: str) -> Exhibit:
    """Of one panel and score, a key of `ACCURACIES`."""
    name, words = f"{score}-{panel.name}", ACCURACIES[score]
    title = f"{panel.title}: {words}"
    if not panel.has(f"{panel.group.measured}/{score}"):
        return Exhibit(name, title, missing=f"{panel.title}: the {words} is not in what was read.")
    return Exhibit(
        name,
        title,
        f"Mean {words} over the seeds of each method, band of one standard deviation."
        + ("" if score != "minority_accuracy" or panel.rare else " They are rare at other ratios; here no class is.")
        + _overlays(panel, score),
        figure=accuracy_figure([panel], styles, score),
        numbers=accuracy_numbers([panel], score),
    )


def accuracy_figure(panels: Sequence[Panel], styles: Mapping[str, Style], score: str = "accuracy") -> "Figure":
    """A panel each, side by side, over one legend; published curves are thin lines without markers."""
    figure, axes = canvas(1, len(panels), width=WIDTH * len(panels), height=HEIGHT)
    names = _named(panels, score)
    for each, panel in zip(axes.flat, panels, strict=True):
        _draw(each, panel, styles, score, names)
    legend_below(figure, axes, columns=2 * len(panels))
    return figure


def accuracy_numbers(panels: Sequence[Panel], score: str = "accuracy") -> pd.DataFrame:
    """What the figure draws, in %: mean and standard deviation of each method, and its published curve."""
    return pd.concat([_numbers(panel, method, score) for panel in panels for method in panel.methods])


def _named(panels: Sequence[Panel], score: str) -> dict[str, str]:
    """How the legend calls each method, once for all panels, whose numbers of seeds may differ."""
    seeds: dict[str, list[int]] = {}
    for panel in panels:
        for method in panel.methods:
            by_seed = panel.by_seed(method, f"{panel.group.measured}/{score}")
            if not by_seed.empty:
                seeds.setdefault(method, []).append(by_seed.shape[1])
    return {method: seeds_named(method, *counts) for method, counts in seeds.items()}


def _draw(axes: "Axes", panel: Panel, styles: Mapping[str, Style], score: str, names: Mapping[str, str]) -> None:
    metric = f"{panel.group.measured}/{score}"
    band = BAND if len(panel.methods) <= FEW else FAINT_BAND
    drawn = False
    for method in panel.methods:
        by_seed = 100 * panel.by_seed(method, metric)
        if by_seed.empty:
            continue
        draw_mean(axes, by_seed, styles[method], names[method], band=band)
        paper = _published(panel, method, score)
        if len(paper):
            label = None if drawn else "published (thin)"
            axes.plot(paper.index, paper, color=styles[method][0], linewidth=0.7, alpha=0.9, label=label)
            drawn = True
    if score in panel.baseline:
        axes.axhline(
            100 * panel.baseline[score].mean(),
            color=BLACK,
            linestyle=":",
            linewidth=1.2,
            label="all labels of the pool",
        )
    if score in panel.validation_only:
        value = 100 * panel.validation_only[score].mean()
        axes.axhline(value, color=BLACK, linestyle="-.", linewidth=1.0, label="validation images alone")
    title_alone(axes, panel.title)
    axes.set_xlabel("labels used")
    axes.set_ylabel(f"{panel.group.measured} {ACCURACIES[score]}, %")
    count_labels(axes)


def _numbers(panel: Panel, method: str, score: str) -> pd.DataFrame:
    by_seed = 100 * panel.by_seed(method, f"{panel.group.measured}/{score}")
    table = pd.DataFrame({"mean": by_seed.mean(axis=1), "std": by_seed.std(axis=1), "seeds": by_seed.count(axis=1)})
    if score == "accuracy":
        table["published"] = _published(panel, method, score).reindex(table.index)
    if score in panel.baseline:
        table["all_labels"] = 100 * panel.baseline[score].mean()
    if score in panel.validation_only:
        table["validation_only"] = 100 * panel.validation_only[score].mean()
    about = {"dataset": panel.group.dataset, "bias": panel.group.bias, "method": method}
    about |= {"schedule": panel.schedule.removeprefix(", ")} if panel.schedule else {}
    table = table.reset_index()
    for place, (column, value) in enumerate(about.items()):
        table.insert(place, column, value)
    return table


def _published(panel: Panel, method: str, score: str) -> pd.Series:
    """The paper's curve is of accuracy on the test set."""
    curve = published_curve(panel.group.dataset, panel.group.bias, method)
    return curve if score == "accuracy" and panel.group.measured == "test" else curve[:0]


def _overlays(panel: Panel, score: str) -> str:
    """What the caption says of the lines that are not measured."""
    paper = any(len(_published(panel, method, score)) for method in panel.methods)
    thin = " Thin lines are the published curves; their epoch was chosen by test accuracy." if paper else ""
    dotted = " Dotted: every label of the pool." if score in panel.baseline else ""
    only = " Dash-dotted: no label of the pool, trained on validation images." if score in panel.validation_only else ""
    return thin + dotted + only
