"""Evaluation: a confusion matrix, and what is read off it."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.engine.processes import ALONE, Processes
from fkal.models.modes import evaluating


@torch.no_grad()
def confusion_matrix(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    batch_size: int,
    meter: Meter,
    processes: Processes = ALONE,
) -> Int[Tensor, "d d"]:
    """Counts by (true class, predicted class), on the CPU; several processes share the batches."""
    d = len(images.classes)
    cells = torch.zeros(d, d, dtype=torch.long)
    batches = processes.own(indices.split(batch_size))
    with evaluating(model):
        stream = images.batches(batches, device=meter.device)
        for batch, x in zip(batches, stream, strict=True):
            y_hat = model(x).argmax(dim=1).cpu()
            cells += confusion_of(images.labels[batch], y_hat, d)
    meter.forward(len(indices))
    return processes.summed(cells)


def confusion_of(y: Int[Tensor, " n"], y_hat: Int[Tensor, " n"], d: int) -> Int[Tensor, "d d"]:
    """Counts by (true class, predicted class) of `d` classes."""
    return torch.bincount(y * d + y_hat, minlength=d * d).view(d, d)


def accuracies(confusion: Int[Tensor, "d d"], minority: Sequence[int], *, prefix: str) -> dict[str, float]:
    """Fractions in [0, 1]: over all images, mean and least over classes, over minority classes.

    A class without images counts in none of them. `minority_accuracy` is left out where no
    class is under-represented.
    """
    right, present = confusion.diagonal().double(), confusion.sum(dim=1).double()
    by_class = (right / present)[present > 0]
    scores = {
        "accuracy": right.sum() / present.sum(),
        "macro_accuracy": by_class.mean(),
        "worst_class_accuracy": by_class.min(),
    }
    rare = list(minority)
    if rare and present[rare].sum() > 0:
        scores["minority_accuracy"] = right[rare].sum() / present[rare].sum()
    return {f"{prefix}/{name}": float(score) for name, score in scores.items()}
