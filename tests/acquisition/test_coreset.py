"""Pools of clusters, of which greedy k-center takes one image each."""

import pytest
import torch
from torch import Tensor

from fkal.acquisition.coreset import select
from fkal.core.evidence import Coverage

CENTERS = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 50.0], [30.0, 30.0], [-20.0, -80.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(of: list[int], *, seed: int = 0) -> Tensor:
    """A point near each center named."""
    return CENTERS[of] + torch.rand(len(of), 2, generator=seeded(seed))


POOL = [4, 0, 1, 0, 2, 3, 1, 3, 0, 2, 4, 0]


@pytest.mark.parametrize("seed", range(5))
def test_as_many_picks_as_clusters_take_one_of_each(seed):
    pool = clusters(POOL, seed=seed)
    picks = select(Coverage(pool, pool[:0]), 5, seeded(seed))
    assert sorted(POOL[i] for i in picks.positions.tolist()) == [0, 1, 2, 3, 4]
    assert picks.scores[0] == torch.inf
    assert (picks.scores[1:] > 20).all()


def test_clusters_that_are_labeled_already_are_left_until_the_others_are_covered():
    picks = select(Coverage(clusters(POOL), clusters([0, 3, 1], seed=9)), 2, seeded())
    assert [POOL[i] for i in picks.positions.tolist()] == [4, 2]  # 82 and 36 from the labeled centers
    rest = select(Coverage(clusters(POOL), clusters([0, 1, 2, 3, 4], seed=9)), 12, seeded())
    assert sorted(rest.positions.tolist()) == list(range(12))
    assert (rest.scores < 2).all()


def test_a_score_is_the_distance_when_picked_and_nothing_is_matched():
    pool = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    picks = select(Coverage(pool, torch.tensor([[0.0]])), 3, seeded())
    assert picks.positions.tolist() == [3, 2, 1]
    assert picks.scores.tolist() == [9.0, 4.0, 1.0]
    assert (picks.ranks, picks.targets) == (None, None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labeled", [0, 7])
def test_picks_are_those_of_greedy_k_center_by_loops(seed, labeled):
    """Each is the image whose nearest labeled or picked one is farthest; without any, the first is drawn."""
    draws = seeded(seed)
    pool, known = torch.randn(40, 5, generator=draws), torch.randn(labeled, 5, generator=draws)
    generator, picked = seeded(seed), []
    while len(picked) < 12:
        centers = [*known.double(), *(pool[i].double() for i in picked)]
        if not centers:
            picked.append(int(torch.randint(40, (), generator=generator)))
            continue
        gaps = [min(float((row - center).norm()) for center in centers) for row in pool.double()]
        picked.append(max((i for i in range(40) if i not in picked), key=gaps.__getitem__))
    assert select(Coverage(pool, known), 12, seeded(seed)).positions.tolist() == picked
