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
