"""Held against loops over images and classes in float64."""

import math

import pytest
import torch
from torch.testing import assert_close

from fkal.core.softmax import class_margins, entropy, least_confidence, margin


def logits_of(n: int, d: int, *, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def probabilities(row: torch.Tensor) -> list[float]:
    weights = [math.exp(x) for x in row.double().tolist()]
    return [w / sum(weights) for w in weights]


@pytest.mark.parametrize("d", [2, 3, 10])
def test_the_three_measures_are_what_they_are_by_hand(d):
    logits = logits_of(30, d, seed=d)
    rows = [sorted(probabilities(row), reverse=True) for row in logits]
    assert_close(least_confidence(logits).tolist(), [1 - row[0] for row in rows])
    assert_close(margin(logits).tolist(), [1 - (row[0] - row[1]) for row in rows])
    assert_close(entropy(logits).tolist(), [-sum(p * math.log(p) for p in row) for row in rows])


def test_images_that_float32_takes_for_certain_are_still_told_apart():
    logits = torch.tensor([[20.0, 0.0, 0.0], [25.0, 0.0, 0.0], [30.0, 0.0, 0.0]])
    for measure in (least_confidence, entropy):
        assert (measure(logits).diff() < 0).all()
        assert (measure(logits) > 0).all()


def test_a_model_of_one_class_is_sure_of_all():
    logits = torch.zeros(3, 1)
    for measure in (least_confidence, margin, entropy):
        assert measure(logits).tolist() == [0.0, 0.0, 0.0]


def slow_class_margins(scores: list[float], scale: list[list[float]] | None) -> list[float]:
    d = len(scores)
    best = max(range(d), key=lambda c: scores[c])

    def distance(a: int, b: int) -> float:
        if scale is None:
            return scores[a] - scores[b]
        return (scores[a] - scores[b]) / scale[a][b] if scale[a][b] else math.inf

    nearest = min(distance(best, c) for c in range(d) if c != best)
    return [nearest if c == best else distance(best, c) for c in range(d)]


@pytest.mark.parametrize("scaled", [False, True])
def test_class_margins_are_distances_between_the_predicted_class_and_each_other(scaled):
    scores = logits_of(25, 4, seed=3).double()
    scale = None
    if scaled:
        scale = torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        scale = (scale + scale.T).fill_diagonal_(0)
        scale[1, 2] = scale[2, 1] = 0  # two classes of equal weights have no boundary
    expected = [slow_class_margins(row.tolist(), None if scale is None else scale.tolist()) for row in scores]
    assert_close(class_margins(scores, scale), torch.tensor(expected, dtype=torch.float64))


def test_the_distance_to_a_boundary_is_the_length_of_the_step_that_reaches_it():
    """BASE's distance in a feature space: the smallest step after which both classes score alike."""
    draws = torch.Generator().manual_seed(5)
    weight, features = torch.randn(3, 4, generator=draws).double(), torch.randn(6, 4, generator=draws).double()
    scores = features @ weight.T
    distances = class_margins(scores, torch.cdist(weight, weight))
    for b, row, found in zip(features, scores, distances, strict=True):
        best = int(row.argmax())
        for c in {0, 1, 2} - {best}:
            normal = (weight[c] - weight[best]) / (weight[c] - weight[best]).norm()
            moved = weight @ (b + found[c] * normal)
            assert_close(moved[c], moved[best])
