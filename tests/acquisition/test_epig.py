"""EPIG's picks beside those of mutual informations worked out pair by pair."""

import math

import pytest
import torch
from torch import Tensor

from fkal.acquisition.epig import select
from fkal.core.epig import epig
from fkal.core.evidence import PredictiveInformation


def drawn(k: int, n: int, seed: int) -> Tensor:
    return (2 * torch.randn(k, n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(dim=2)


def information(image: Tensor, target: Tensor) -> float:
    """KL(p(y, y*) || p(y) p(y*)) of one image and one target, over the same networks."""
    k = len(image)
    total = 0.0
    for y in range(3):
        for y_star in range(3):
            joint = sum(float(image[s, y]) * float(target[s, y_star]) for s in range(k)) / k
            total += joint * math.log(joint / float(image[:, y].mean() * target[:, y_star].mean()))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_picks_are_the_images_that_tell_most_of_the_targets_on_average(seed):
    p, targets = drawn(5, 20, seed), drawn(5, 6, seed + 1)
    told = [sum(information(p[:, i], targets[:, t]) for t in range(6)) / 6 for i in range(20)]
    expected = sorted(range(20), key=lambda i: -told[i])[:7]
    picks = select(PredictiveInformation(epig(p, targets)), 7, torch.Generator())
    assert picks.positions.tolist() == expected
    assert picks.scores.tolist() == pytest.approx([told[i] for i in expected])
