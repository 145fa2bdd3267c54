"""Pools in which the images nearest to each class's boundary are known."""

from collections import Counter

import pytest
import torch

from fkal.acquisition.balanced import select_balanced_margin, select_base
from fkal.core.evidence import LastLayer, Outputs, Predictions


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_class_that_is_never_predicted_gets_its_share():
    """Class 2 comes second at best; margin sampling would ask for the close calls of 0 and 1 alone."""
    sure = [[0.9, 0.07, 0.03]] * 10 + [[0.07, 0.9, 0.03]] * 10
    close = [[0.48, 0.47, 0.05]] * 6
    rare = [[0.6, 0.05, 0.35]] * 4
    pool = torch.tensor(sure + close + rare)
    picks = select_balanced_margin(Predictions(pool.log()), 12, seeded())
    of = Counter("rare" if i >= 26 else "close" if i >= 20 else "sure" for i in picks.positions.tolist())
    assert of["rare"] >= 4
    assert of["close"] == 6


@pytest.mark.parametrize("seed", range(4))
def test_distance_is_measured_in_features_and_not_in_logits(seed):
    """Two boundaries of one axis each; weights of the second are long, so logits there exaggerate the distance."""
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 10.0]])
    features = torch.tensor([[1.0, -9.0], [3.0, -9.0], [-1.5, -9.0], [-4.0, -9.0]])
    pool = Outputs(features @ weight.T, features)
    picks = select_base(LastLayer(pool, weight), 3, seeded(seed))
    slow = []
    for b in features.double():
        row = weight.double() @ b
        best = int(row.argmax())
        gaps = [float((row[best] - row[c]) / (weight[best] - weight[c]).double().norm()) for c in range(3) if c != best]
        gaps.insert(best, min(gaps))
        slow.append(gaps)
    left, expected = set(range(4)), []
    for c in torch.randperm(3, generator=seeded(seed)).tolist():
        nearest = min(left, key=lambda i, c=c: slow[i][c])
        left.remove(nearest)
        expected.append((nearest, -slow[nearest][c]))
    assert picks.positions.tolist() == [i for i, _ in expected]
    assert picks.scores.tolist() == pytest.approx([score for _, score in expected])


@pytest.mark.parametrize(("p", "shares"), [(3, [1, 1, 1]), (7, [3, 2, 2]), (2, [1, 1])])
def test_what_classes_cannot_share_goes_to_a_drawn_one(p, shares):
    """The pool's images are each nearest to one class by far, so the classes of the picks are their shares."""
    nearest = torch.arange(30) % 3
    logits = torch.full((30, 3), -50.0)
    logits[torch.arange(30), nearest] = 0.0
    logits += torch.rand(30, 3, generator=seeded(1)) * 1e-3
    counts, first = [], set()
    for seed in range(12):
        positions = select_balanced_margin(Predictions(logits), p, seeded(seed)).positions
        counts.append(sorted(Counter(nearest[positions].tolist()).values(), reverse=True))
        first.add(int(nearest[positions[0]]))
    assert len(set(positions.tolist())) == p
    assert first == {0, 1, 2}


def test_classes_of_equal_weights_have_no_boundary_and_are_filled_up_all_the_same():
    features = torch.rand(8, 2, generator=seeded(2))
    weight = torch.ones(4, 2)
    picks = select_base(LastLayer(Outputs(features @ weight.T, features), weight), 8, seeded())
    assert sorted(picks.positions.tolist()) == list(range(8))
    assert picks.scores.isinf().all()


def nearest_by_class(distances: list[list[float]], p: int, generator: torch.Generator) -> list[int]:
    """The program of BASE's authors with its classes in a drawn order: the nearest of those that are left."""
    d = len(distances[0])
    left, picked = set(range(len(distances))), []
    for k, c in enumerate(torch.randperm(d, generator=generator).tolist()):
        share = p // d + (k < p % d)
        picked += sorted(left, key=lambda i, c=c: distances[i][c])[:share]
        left -= set(picked)
    return picked


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [5, 17, 40])
def test_base_picks_the_images_whose_shortest_step_over_a_boundary_is_shortest(seed, p):
    """A step is the projection onto the boundary between two classes' planes, in the space of the features."""
    draws = seeded(seed)
    features, weight = torch.randn(40, 6, generator=draws), torch.randn(5, 6, generator=draws)
    bias = torch.randn(5, generator=draws)
    logits = features @ weight.T + bias
    distances = []
    for b in features.double():
        values = [float(weight[c].double() @ b + bias[c].double()) for c in range(5)]
        best = max(range(5), key=values.__getitem__)
        steps = []
        for c in range(5):
            across = weight[best].double() - weight[c].double()
            step = -across * (values[best] - values[c]) / across.square().sum() if c != best else None
            steps.append(torch.inf if step is None else float(step.norm()))
        distances.append([min(steps) if c == best else steps[c] for c in range(5)])
    picks = select_base(LastLayer(Outputs(logits, features), weight), p, seeded(seed))
    assert picks.positions.tolist() == nearest_by_class(distances, p, seeded(seed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [5, 17, 40])
def test_balanced_margin_picks_the_images_of_the_least_differences_of_probabilities(seed, p):
    logits = torch.randn(40, 5, generator=seeded(seed))
    distances = []
    for row in logits.double().softmax(dim=1).tolist():
        best = max(range(5), key=row.__getitem__)
        others = [row[best] - row[c] if c != best else torch.inf for c in range(5)]
        distances.append([min(others) if c == best else others[c] for c in range(5)])
    picks = select_balanced_margin(Predictions(logits), p, seeded(seed))
    assert picks.positions.tolist() == nearest_by_class(distances, p, seeded(seed))
