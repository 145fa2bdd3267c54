"""Greedy noisy-or against loops over the whole matrix."""

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fkal.core.noisy_or import noisy_or


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def helped(k: list[list[float]], weights: list[float], picked: list[int]) -> float:
    """sum_t w_t (1 - prod_a (1 - k(a, t))); rows of k are candidates."""
    return sum(w * (1 - prod(1 - k[a][t] for a in picked)) for t, w in enumerate(weights))


def slow_greedy(k: list[list[float]], weights: list[float], p: int) -> list[int]:
    """Every gain worked out every time; of equals the smallest."""
    picked: list[int] = []
    for _ in range(p):
        rest = [a for a in range(len(k)) if a not in picked]
        picked.append(max(rest, key=lambda a: helped(k, weights, [*picked, a])))
    return picked


def picks_of(k, weights, p, **options):
    return noisy_or(lambda rows: k[rows], len(k), p, log_weights=weights.double().log(), **options)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), m=st.integers(1, 12), share=st.floats(0.05, 1.0))
def test_the_picks_are_those_of_greedy_over_the_whole_matrix(seed, n, m, share):
    draws = seeded(seed)
    k = torch.rand(n, m, generator=draws, dtype=torch.float64) * 0.95
    k[torch.rand(n, m, generator=draws) > 0.6] = 0
    weights = torch.rand(m, generator=draws, dtype=torch.float64) + 0.01
    p = max(1, int(share * n))
    picks = picks_of(k, weights, p)
    chosen = picks.positions.tolist()
    expected = slow_greedy(k.tolist(), weights.tolist(), p)
    gains = [helped(k.tolist(), weights.tolist(), chosen[: i + 1]) for i in range(p)]
    assert gains == pytest.approx([helped(k.tolist(), weights.tolist(), expected[: i + 1]) for i in range(p)])
    assert picks.scores.cumsum(0).tolist() == pytest.approx(gains)
    assert len(set(chosen)) == p


@pytest.mark.parametrize("block_entries", [1, 7, 30, 1 << 22])
def test_blocks_of_any_size_give_the_same_picks(block_entries):
    k = torch.rand(50, 9, generator=seeded(1))
    looks = []

    def helps(rows):
        looks.append(len(rows) * 9)
        return k[rows]

    weights = torch.ones(9, dtype=torch.float64)
    picks = noisy_or(helps, 50, 12, log_weights=weights.log(), block_entries=block_entries)
    assert picks.positions.tolist() == slow_greedy(k.double().tolist(), weights.tolist(), 12)
    assert max(looks) <= max(9, block_entries)


def test_of_equal_gains_the_smaller_position_is_taken():
    k = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.0], [0.0, 0.5], [0.0, 0.0]])
    assert picks_of(k, torch.ones(2), 6).positions.tolist() == [1, 2, 3, 4, 0, 5]


def test_old_gains_spare_most_new_ones():
    """400 candidates for 40 targets of their own each: few are looked at again for each of 40 picks."""
    k = torch.zeros(400, 40)
    k[torch.arange(400), torch.arange(400) % 40] = torch.rand(400, generator=seeded(2)) * 0.9
    looked = []

    def helps(rows):
        looked.append(len(rows))
        return k[rows]

    picks = noisy_or(helps, 400, 40, log_weights=torch.zeros(40, dtype=torch.float64))
    assert picks.positions.tolist() == slow_greedy(k.double().tolist(), [1.0] * 40, 40)
    assert sum(looked) < 400 + 40 * 100


def test_what_thousands_have_helped_is_still_told_apart():
    """Weights of 10^-1000 and 10^-1001, which no float holds: the larger one's candidate comes first."""
    k = torch.tensor([[0.0, 0.5], [0.5, 0.0]])
    log_weights = torch.tensor([-1000.0, -1001.0], dtype=torch.float64) * torch.tensor(10.0).log()
    picks = noisy_or(lambda rows: k[rows], 2, 1, log_weights=log_weights)
    assert picks.positions.tolist() == [1]
    assert picks.targets.tolist() == [0]


def test_targets_that_are_helped_for_sure_or_count_nothing_leave_the_order_of_the_pool():
    k = torch.tensor([[0.0, 0.3], [1.0, 0.0], [0.9, 0.9]])
    assert picks_of(k, torch.tensor([0.0, 0.0]), 3).positions.tolist() == [0, 1, 2]
    assert picks_of(k, torch.tensor([1.0, 0.0]), 3).positions.tolist() == [1, 0, 2]


def test_the_target_of_a_pick_is_the_one_that_gained_most():
    k = torch.tensor([[0.6, 0.5], [0.5, 0.4]])
    assert picks_of(k, torch.ones(2), 2).targets.tolist() == [0, 1]  # what is left is .4 and .5: .20 beside .20


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="3 picks of a pool of 2; ask for 1 to 2"):
        picks_of(torch.rand(2, 3), torch.ones(3), 3)
    with pytest.raises(ValueError, match="a similarity is NaN"):
        picks_of(torch.full((2, 3), torch.nan), torch.ones(3), 1)


def test_targets_that_are_wholly_covered_bring_no_pick_back():
    """All but certain similarities, then one that leaves nothing to want."""
    k = torch.full((60, 1), 1 - 6e-8)
    k[50] = 1.0
    picks = picks_of(k, torch.ones(1), 60)
    assert sorted(picks.positions.tolist()) == list(range(60))
