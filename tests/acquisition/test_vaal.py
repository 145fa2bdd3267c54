"""VAAL's choice from what its discriminator says; how its networks learn is tests/engine/test_vaal.py."""

import pytest
import torch

from fkal.acquisition.vaal import select
from fkal.core.evidence import Discrimination


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(3))
def test_picks_are_the_least_probably_labeled_of_a_sorted_list(seed):
    logits = 12 * torch.randn(60, generator=seeded(seed), dtype=torch.float64)
    probabilities = [1 / (1 + torch.exp(-v).item()) for v in logits]
    expected = sorted(range(60), key=probabilities.__getitem__)[:20]
    picks = select(Discrimination(logits.sigmoid()), 20, seeded())
    assert picks.positions.tolist() == expected
    assert (-picks.scores).tolist() == pytest.approx([probabilities[i] for i in expected])


def test_of_equally_probable_images_a_drawn_one_comes_first():
    """The program takes the first of equals; a pool is often sorted by class."""
    equal = Discrimination(torch.full((50,), 0.5, dtype=torch.float64))
    assert len({int(select(equal, 1, seeded(seed)).positions) for seed in range(20)}) > 5
