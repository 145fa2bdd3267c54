"""t-SNE of the test descriptors with the misclassified marked (the paper's Fig. 6), methods in one layout."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fkal.core.descriptors import pooled
from fkal.core.randomness import stream
from fkal.data.datasets import Dataset
from fkal.engine.settings import FEW_CLASSES
from fkal.models.modes import evaluating
from fkal.models.registry import build
from fkal.models.taps import Taps
from fkal.plots.canvas import INK, broken, key_below, small_canvas
from fkal.plots.class_colours import class_colours
from fkal.plots.figure_text import figure_text
from fkal.report.exhibit import Exhibit
from fkal.report.experiments import Finished, Weights
from fkal.report.panels import Panel, with_class_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

IMAGES = 800
"""Of the test set; more would neither be told apart nor be laid out in seconds."""
MEMBER = "members.0."
RING: Mapping[str, Any] = {"facecolors": "none", "edgecolors": INK, "s": 11, "linewidths": 0.35}
"""Of the misclassified, around the point, whose colour stays to be seen."""


class Described(NamedTuple):
    """Pooled features of some images, whether the model's arg max is right, and whether it is one of an ensemble."""

    features: np.ndarray
    right: np.ndarray
    is_member: bool


def tsne_exhibit(panel: Panel, dataset: Dataset | str) -> Exhibit:
    """Of each method's first seed; `dataset` may be the reason why it cannot be read."""
    name, title = f"tsne-{panel.name}", f"{panel.title}: test descriptors"
    reason = _reason(panel, dataset)
    if reason or isinstance(dataset, str):
        return Exhibit(name, title, missing=f"{title} (t-SNE): {reason}.")
    some = _some(len(dataset.test))
    described = {method: describe(panel.experiments(method)[0], dataset, some) for method in panel.methods}
    places = layout([each.features for each in described.values()])
    labels = dataset.test.labels[some].cpu().numpy()
    table = pd.DataFrame({"test_index": some.numpy(), "x": places[:, 0], "y": places[:, 1], "label": labels})
    table = with_class_names(table, dataset.classes)
    for method, each in described.items():
        table[method] = each.right
    return Exhibit(
        name,
        title,
        f"{len(some):,} test images laid out once, by the features of all methods' models side by side (t-SNE), "
        "coloured by true class; ringed: those that the method's model, first seed, after the last label, gets wrong."
        + _of_ensembles(described),
        figure=_figure(table, list(described), dataset.classes),
        numbers=table,
        wide=True,
    )


@torch.no_grad()
def describe(experiment: Finished, dataset: Dataset, some: Tensor) -> Described:
    """By the model of the last round; of an ensemble, its first member."""
    config = experiment.outcome.config
    model = build(config.model.name, dataset.train.shape, len(dataset.classes))
    weights = experiment.last_weights()
    model.load_state_dict(first_member(weights))
    rows, right = [], []
    batches = some.split(config.acquisition.batch_size)
    with evaluating(model):
        for batch, x in zip(batches, dataset.test.batches(batches, device="cpu"), strict=True):
            with Taps(model, config.acquisition.taps) as taps:
                logits = model(x)
            rows.append(torch.cat([pooled(taps.outputs[tap]) for tap in config.acquisition.taps], dim=1))
            right.append(logits.argmax(dim=1) == dataset.test.labels[batch].cpu())
    return Described(torch.cat(rows).numpy(), torch.cat(right).numpy(), any(w.startswith(MEMBER) for w in weights))


def first_member(weights: Weights) -> dict[str, Tensor]:
    """Of an ensemble; a single model's weights are its own."""
    members = {name.removeprefix(MEMBER): value for name, value in weights.items() if name.startswith(MEMBER)}
    return members or dict(weights)


def layout(features: list[np.ndarray]) -> np.ndarray:
    """Places (n 2) by the features of several models, each column standardised: none of them outweighs another.

    By one thread: several wait for each other so busily that beside other work they took five times as long.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    columns = np.concatenate(features, axis=1)
    deviation = columns.std(axis=0)
    standard = (columns - columns.mean(axis=0))[:, deviation > 0] / deviation[deviation > 0]
    perplexity = min(30.0, (len(standard) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(init="pca", perplexity=perplexity, random_state=0, max_iter=500).fit_transform(standard)


def _some(n: int) -> Tensor:
    return torch.randperm(n, generator=stream(0, "report", "tsne"))[:IMAGES].sort().values


def _reason(panel: Panel, dataset: Dataset | str) -> str:
    if isinstance(dataset, str):
        return dataset
    if not panel.finished:
        return "curves alone were read, and no model with them"
    if any(finished.outcome.config.model.is_pretrained for finished in panel.finished):
        return "a model has pretrained weights, which are not kept beside its rounds"
    if len(dataset.classes) > FEW_CLASSES:
        return f"{len(dataset.classes)} classes are too many colours"
    return "" if panel.group.measured == "test" else "accuracy was measured on held-out images"


def _of_ensembles(described: Mapping[str, Described]) -> str:
    names = [method for method, each in described.items() if each.is_member]
    return f" Of an ensemble ({', '.join(names)}) its first member alone is shown." if names else ""


def _figure(table: pd.DataFrame, methods: list[str], classes: Sequence[str]) -> "Figure":
    figure, axes = small_canvas(len(methods))
    colours = class_colours(len(classes))
    of_points = [colours[k] for k in table["label"]]
    for each, method in zip(axes, methods, strict=True):
        wrong = table[~table[method]]
        each.scatter(table["x"], table["y"], c=of_points, s=5, linewidths=0, rasterized=True)
        each.scatter(wrong["x"], wrong["y"], rasterized=True, **RING)
        each.set_title(f"{broken(method)}\n{len(wrong)} wrong of {len(table)}", fontsize=7.5)
        each.set_xticks([])
        each.set_yticks([])
        each.grid(False)
    key_below(figure, _key(classes, colours))
    return figure


def _key(classes: Sequence[str], colours: Sequence[str]) -> list["Line2D"]:
    from matplotlib.lines import Line2D

    dot: Any = {"linestyle": "", "marker": "o", "markersize": 5}
    dots = [Line2D([], [], color=c, label=figure_text(name), **dot) for name, c in zip(classes, colours, strict=True)]
    ring = Line2D([], [], markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.5, label="wrong", **dot)
    return [*dots, ring]
