"""Pools in which it is known which predictions change and which image is in the middle."""

import pytest
import torch
from torch import Tensor

from fkal.acquisition import dropquery
from fkal.acquisition.clusters import k_means
from fkal.acquisition.dropquery import select
from fkal.core.evidence import LastLayer, Outputs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seen(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> LastLayer:
    logits = features @ weight.T + (0 if bias is None else bias)
    return LastLayer(Outputs(logits, features), weight)


def slow_changes(evidence: LastLayer, bias: Tensor, generator: torch.Generator) -> list[bool]:
    """Each draw of each image by itself: three quarters of the features are dropped, the rest counts four times."""
    drawn = torch.rand(3, *evidence.pool.features.shape, generator=generator)
    changed = []
    for i, row in enumerate(evidence.pool.features):
        best = int(evidence.pool.logits[i].argmax())
        others = 0
        for draw in range(3):
            kept = [4 * float(x) if float(u) >= 0.75 else 0.0 for x, u in zip(row, drawn[draw, i], strict=True)]
            logits = evidence.weight @ torch.tensor(kept) + bias
            others += int(logits.argmax()) != best
        changed.append(others >= 2)
    return changed


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_those_whose_prediction_mostly_changes(seed):
    draws = seeded(seed)
    features, weight, bias = torch.randn(60, 8, generator=draws), torch.randn(4, 8, generator=draws), torch.randn(4)
    evidence = seen(features, weight, bias)
    changes = slow_changes(evidence, bias, seeded(seed))
    assert 0 < sum(changes) < 60
    picks = select(evidence, 5, seeded(seed))
    assert all(changes[i] for i in picks.positions.tolist())


def test_one_image_nearest_to_the_mean_of_each_cluster_is_taken():
    """Two far clusters; with one class nothing changes, so the whole pool is clustered."""
    angles = torch.tensor([0.00, 0.10, 0.25, 1.50, 1.70, 1.77])
    evidence = seen(torch.stack([angles.cos(), angles.sin()], dim=1), torch.ones(1, 2))
    picks = select(evidence, 2, seeded())
    assert sorted(picks.positions.tolist()) == [1, 4]
    assert picks.scores.tolist() == sorted(picks.scores.tolist(), reverse=True)
    assert sorted(select(evidence, 6, seeded()).positions.tolist()) == list(range(6))


def test_copies_leave_fewer_clusters_than_picks_and_the_next_nearest_follow():
    features = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    picks = select(seen(features, torch.ones(1, 2)), 4, seeded())
    assert len(set(picks.positions.tolist())) == 4
    assert {0, 3} <= set(picks.positions.tolist())


def test_a_pool_in_parts_has_as_many_candidates(monkeypatch):
    draws = seeded(3)
    evidence = seen(torch.randn(50, 6, generator=draws), torch.randn(3, 6, generator=draws))
    monkeypatch.setattr(dropquery, "ROWS_AT_ONCE", 7)
    assert len(set(select(evidence, 8, seeded()).positions.tolist())) == 8


def test_what_cannot_be_is_refused():
    evidence = seen(torch.randn(5, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match="6 picks of a pool of 5"):
        select(evidence, 6, seeded())
    with pytest.raises(ValueError, match="NaN or infinite"):
        select(seen(torch.full((5, 3), torch.nan), torch.randn(2, 3)), 1, seeded())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [3, 8])
def test_picks_are_those_of_lists_of_each_clusters_images_by_their_distance_from_its_mean(seed, p):
    draws = seeded(seed)
    features, weight, bias = torch.randn(80, 8, generator=draws), torch.randn(4, 8, generator=draws), torch.randn(4)
    evidence, generator = seen(features, weight, bias), seeded(seed)
    changes = slow_changes(evidence, bias, generator)
    candidates = [i for i in range(80) if changes[i]]
    assert len(candidates) >= p
    rows = torch.stack([features[i] / features[i].norm() for i in candidates])
    clusters = k_means(rows, p, generator).tolist()
    members = [[i for i, own in enumerate(clusters) if own == c] for c in range(p)]
    places = []
    for of in members:
        mean = sum(rows[i] for i in of) / len(of)
        gaps = {i: float((rows[i] - mean).norm()) for i in of}
        places += [(rank, gaps[i], i) for rank, i in enumerate(sorted(of, key=gaps.__getitem__))]
    expected = [candidates[i] for _, _, i in sorted(places)[:p]]
    assert select(evidence, p, seeded(seed)).positions.tolist() == expected
