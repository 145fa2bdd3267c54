"""t-SNE of the test descriptors with the misclassified marked (the paper's Fig. 6), methods in one layout."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fkal.core.descriptors import pooled
from fkal.core.randomness import stream
from fkal.data.datasets import Dataset
from fkal.edge.looks import VERMILION
from fkal.edge.reporting.canvas import canvas, hide_rest
from fkal.edge.reporting.exhibits import Exhibit
from fkal.edge.reporting.finished import Finished, Weights
from fkal.edge.reporting.panels import Panel
from fkal.engine.rounds import FEW_CLASSES
from fkal.models import Taps, build, evaluating

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = 800
"""Of the test set; more would neither be told apart nor be laid out in seconds."""
MEMBER = "members.0."
COLUMNS, SIDE = 4, 1.9


class Described(NamedTuple):
    """Pooled features of some images and whether the model's arg max is right."""

    features: np.ndarray
    right: np.ndarray


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
    for method, each in described.items():
        table[method] = each.right
    return Exhibit(
        name,
        title,
        f"{len(some):,} test images laid out once, by the features of all methods' models side by side (t-SNE), "
        "coloured by true class; crosses: those that the method's model, first seed, after the last label, gets wrong.",
        figure=_figure(table, list(described)),
        numbers=table,
        wide=True,
    )


@torch.no_grad()
def describe(experiment: Finished, dataset: Dataset, some: Tensor) -> Described:
    """By the model of the last iteration; of an ensemble, its first member."""
    config = experiment.outcome.config
    model = build(config.model.name, dataset.train.shape, len(dataset.classes))
    model.load_state_dict(first_member(experiment.last_weights()))
    rows, right = [], []
    batches = some.split(config.acquisition.batch_size)
    with evaluating(model):
        for batch, x in zip(batches, dataset.test.batches(batches, device="cpu"), strict=True):
            with Taps(model, config.acquisition.taps) as taps:
                logits = model(x)
            rows.append(torch.cat([pooled(taps.outputs[tap]) for tap in config.acquisition.taps], dim=1))
            right.append(logits.argmax(dim=1) == dataset.test.labels[batch].cpu())
    return Described(torch.cat(rows).numpy(), torch.cat(right).numpy())


def first_member(weights: Weights) -> dict[str, Tensor]:
    """Of an ensemble; a single model's weights are its own."""
    members = {name.removeprefix(MEMBER): value for name, value in weights.items() if name.startswith(MEMBER)}
    return members or dict(weights)


def layout(features: list[np.ndarray]) -> np.ndarray:
    """Places (n 2) by the features of several models, each column standardised: none of them outweighs another."""
    from sklearn.manifold import TSNE

    columns = np.concatenate(features, axis=1)
    deviation = columns.std(axis=0)
    standard = (columns - columns.mean(axis=0))[:, deviation > 0] / deviation[deviation > 0]
    perplexity = min(30.0, (len(standard) - 1) / 3)
    return TSNE(init="pca", perplexity=perplexity, random_state=0, max_iter=500).fit_transform(standard)


def _some(n: int) -> Tensor:
    return torch.randperm(n, generator=stream(0, "report", "tsne"))[:IMAGES].sort().values


def _reason(panel: Panel, dataset: Dataset | str) -> str:
    if isinstance(dataset, str):
        return dataset
    if not panel.finished:
        return "curves alone were read, and no model with them"
    if len(dataset.classes) > FEW_CLASSES:
        return f"{len(dataset.classes)} classes are too many colours"
    return "" if panel.group.measured == "test" else "accuracy was measured on held-out images"


def _figure(table: pd.DataFrame, methods: list[str]) -> "Figure":
    rows = -(-len(methods) // COLUMNS)
    figure, axes = canvas(rows, COLUMNS, width=COLUMNS * SIDE, height=rows * SIDE)
    for each, method in zip(hide_rest(axes, len(methods)), methods, strict=True):
        wrong = table[~table[method]]
        each.scatter(table["x"], table["y"], c=table["label"], cmap="cividis", s=3, linewidths=0, rasterized=True)
        each.scatter(wrong["x"], wrong["y"], c=VERMILION, marker="x", s=9, linewidths=0.8, rasterized=True)
        each.set_title(f"{method}: {len(wrong)} wrong", fontsize=7)
        each.set_xticks([])
        each.set_yticks([])
        each.grid(False)
    return figure
