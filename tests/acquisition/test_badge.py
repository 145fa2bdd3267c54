"""k-means++ on gradients that are built, image by image."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fkal.acquisition.badge import select
from fkal.core.evidence import LastLayer, Outputs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(outputs: Outputs) -> Tensor:
    p = outputs.logits.double().softmax(dim=1)
    a = p - F.one_hot(p.argmax(dim=1), p.shape[1])
    return torch.stack([torch.outer(x, b).flatten() for x, b in zip(a, outputs.features.double(), strict=True)])


def pool_of(n: int, *, seed: int) -> Outputs:
    return Outputs(
        torch.randn(n, 3, generator=seeded(seed), dtype=torch.float64),
        torch.rand(n, 4, generator=seeded(seed + 1), dtype=torch.float64),
    )


def slow(gradients: Tensor, p: int, generator: torch.Generator) -> tuple[list[int], list[float]]:
    norms = gradients.norm(dim=1).tolist()
    picked = [norms.index(max(norms))]
    scores = [max(norms)]
    while len(picked) < p:
        gaps = [min(float((g - gradients[c]).norm()) for c in picked) for g in gradients]
        for c in picked:
            gaps[c] = 0.0
        at = float(torch.rand((), generator=generator, dtype=torch.float64)) * sum(gap**2 for gap in gaps)
        chosen, running = 0, gaps[0] ** 2
        while running <= at:
            chosen += 1
            running += gaps[chosen] ** 2
        picked.append(chosen)
        scores.append(gaps[chosen])
    return picked, scores


@pytest.mark.parametrize("seed", range(5))
def test_it_draws_what_k_means_plus_plus_draws_on_built_gradients(seed):
    pool = pool_of(15, seed=seed)
    picks = select(LastLayer(pool, torch.zeros(3, 4)), 10, seeded(seed))
    positions, scores = slow(built(pool), 10, seeded(seed))
    assert picks.positions.tolist() == positions
    assert picks.scores.tolist() == pytest.approx(scores)


@pytest.mark.parametrize("seed", range(5))
def test_of_kinds_of_gradients_each_gets_one_pick(seed):
    """Three kinds of images that the model is unsure of, each of its own features: different, not merely large."""
    kinds = [0, 1, 2] * 8
    features = 5 * torch.eye(3)[kinds] + 1e-3 * torch.rand(24, 3, generator=seeded(seed))
    picks = select(LastLayer(Outputs(torch.zeros(24, 2), features), torch.zeros(2, 3)), 3, seeded(seed))
    assert sorted(kinds[i] for i in picks.positions.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_of_images_that_the_model_is_sure_of_one_stands_for_all(seed):
    """Their gradients are nothing, so after one of them the others are copies."""
    sure = Outputs(torch.tensor([[90.0, 0.0]] * 30), torch.rand(30, 3, generator=seeded(seed)))
    unsure = Outputs(torch.zeros(5, 2), torch.rand(5, 3, generator=seeded(seed + 1)))
    pool = Outputs(torch.cat([sure.logits, unsure.logits]), torch.cat([sure.features, unsure.features]))
    positions = select(LastLayer(pool, torch.zeros(2, 3)), 6, seeded(seed)).positions.tolist()
    assert set(range(30, 35)) < set(positions)


def test_copies_are_picked_when_nothing_else_is_left():
    pool = Outputs(torch.zeros(6, 2), torch.ones(6, 3))
    firsts = set()
    for seed in range(12):
        positions = select(LastLayer(pool, torch.zeros(2, 3)), 6, seeded(seed)).positions.tolist()
        assert sorted(positions) == list(range(6))
        firsts.add(positions[1])
    assert len(firsts) > 2


def test_features_whose_squares_are_infinite_are_refused():
    pool = pool_of(20, seed=3)
    large = Outputs(pool.logits.float(), (pool.features * 1e25).float())
    with pytest.raises(ValueError, match="square is infinite"):
        select(LastLayer(large, torch.zeros(3, 4)), 5, seeded())
