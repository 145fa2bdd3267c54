"""Potentials of entropic transport, held against a linear program."""

import pytest
import torch
from scipy.optimize import linprog

from fkal.core.transport import BLUR, potentials, source_potentials


def costs(u: int, m: int, seed: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.cdist(torch.randn(u, 3, generator=draws), torch.randn(m, 3, generator=draws)).clamp(max=2)


def least_cost(cost: torch.Tensor) -> float:
    """Of plans that take 1 / u from each source and bring 1 / m to each target."""
    u, m = cost.shape
    rows = torch.kron(torch.eye(u), torch.ones(1, m))
    columns = torch.kron(torch.ones(1, u), torch.eye(m))
    masses = [*[1 / u] * u, *[1 / m] * m]
    taken = torch.cat([rows, columns]).double().numpy()
    return float(linprog(cost.double().flatten().numpy(), A_eq=taken, b_eq=masses).fun)


@pytest.mark.parametrize(("u", "m"), [(5, 5), (4, 9), (9, 4), (1, 6)])
@pytest.mark.parametrize("seed", range(2))
def test_the_dual_value_is_the_least_cost_and_no_potential_pays_more_than_a_way_costs(u, m, seed):
    cost = costs(u, m, seed)
    f, g = potentials(cost)
    assert float(f.mean() + g.mean()) == pytest.approx(least_cost(cost), abs=0.01)
    assert float((f[:, None] + g[None] - cost).max()) < 50 * BLUR**2


def test_a_source_far_from_all_targets_has_the_largest_potential():
    targets = torch.tensor([[0.0], [1.0], [2.0]])
    sources = torch.tensor([[0.1], [1.1], [9.0]])
    assert int(source_potentials(torch.cdist(sources, targets)).argmax()) == 2


@pytest.mark.parametrize("cost", [torch.empty(0, 3), torch.empty(3, 0), torch.tensor([[1.0, torch.nan]])])
def test_a_cost_that_is_missing_or_not_finite_is_refused(cost):
    with pytest.raises(ValueError, match="missing or not finite"):
        potentials(cost)
