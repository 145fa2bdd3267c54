"""Budget curves as numbers: accuracy against labels used."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pandas as pd

from fkal.engine.rounds import Round
from fkal.engine.settings import FEW_CLASSES

ACCURACY = "test/accuracy"
REACHED = 0.9


class LabelsNeeded(NamedTuple):
    """Labels that reach an accuracy; with `at_most` fewer might do, since the curve starts there."""

    labels: float
    at_most: bool


def curve_frame(rounds: Sequence[Round]) -> pd.DataFrame:
    """One row per round: b, labels_used, the metrics by name and, of few classes, the accuracy of each."""
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

    With a single round it is that one's accuracy. Comparable between runs of one schedule of labels.
    """
    if len(labels) == 1:
        return float(accuracies[0])
    points = list(zip(labels, accuracies, strict=True))
    area = sum((n1 - n0) * (a0 + a1) / 2 for (n0, a0), (n1, a1) in pairwise(points))
    return float(area / (labels[-1] - labels[0]))


def labels_to_reach(accuracy: float, labels: Sequence[int], accuracies: Sequence[float]) -> LabelsNeeded | None:
    """The fewest labels with this accuracy, interpolated between rounds; None if it is never reached.

    A curve that starts at or above the accuracy says no more than that its first labels are enough.
    """
    points = list(zip(labels, accuracies, strict=True))
    if points and points[0][1] >= accuracy:
        return LabelsNeeded(float(points[0][0]), at_most=True)
    for (n0, a0), (n1, a1) in pairwise(points):
        if a1 >= accuracy:
            return LabelsNeeded(n0 + (n1 - n0) * (accuracy - a0) / (a1 - a0), at_most=False)
    return None
