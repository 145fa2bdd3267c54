import torch

from fkal.acquisition.everything import select
from fkal.core.evidence import Nothing


def test_everything_is_every_position_in_order_and_nothing_is_drawn():
    draws, untouched = (torch.Generator().manual_seed(0) for _ in range(2))
    picks = select(Nothing(7), 7, draws)
    assert picks.positions.tolist() == list(range(7))
    assert (picks.ranks, picks.scores, picks.targets) == (None, None, None)
    assert torch.equal(draws.get_state(), untouched.get_state())
