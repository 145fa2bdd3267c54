import torch

from fkal.acquisition.random import select
from fkal.core.evidence import Nothing


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_position_is_picked_about_as_often_as_any_other():
    counts = torch.zeros(10, dtype=torch.long)
    for seed in range(600):
        counts[select(Nothing(10), 3, seeded(seed)).positions] += 1
    # binomial with n = 600 and p = 0.3 has mean 180 and standard deviation 11.2
    assert int(counts.min()) > 180 - 5 * 11.2
    assert int(counts.max()) < 180 + 5 * 11.2


def test_it_claims_no_reason_for_a_pick():
    picks = select(Nothing(10), 3, seeded(0))
    assert picks.ranks is None
    assert picks.scores is None
    assert picks.targets is None
