"""FLQMI and GCMI by loops over queries, and queries whose nearest pool images are known."""

import pytest
import torch
from torch import Tensor

from fkal.acquisition.similar import ETA, select_flqmi, select_gcmi
from fkal.core.evidence import Queried


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / float(a.norm() * b.norm())


def flqmi(evidence: Queried, picked: list[int]) -> float:
    """Table 1 of the paper: sum over queries of the best pick, and eta times sum over picks of the best query."""
    s = [[max(0.0, cosine(a, q)) for q in evidence.queries] for a in evidence.pool]
    m = len(evidence.queries)
    return sum(max([0.0, *(s[a][q] for a in picked)]) for q in range(m)) + ETA * sum(max(s[a]) for a in picked)


@pytest.mark.parametrize("seed", range(4))
def test_flqmi_picks_greedily(seed):
    """Two picks of eight: all candidates are drawn."""
    pool, queries = (torch.randn(n, 4, generator=seeded(seed + n), dtype=torch.float64) for n in (8, 6))
    evidence = Queried(pool, queries)
    picks = select_flqmi(evidence, 2, seeded(seed))
    picked: list[int] = []
    for position, score in zip(picks.positions.tolist(), picks.scores.tolist(), strict=True):
        gains = {a: flqmi(evidence, [*picked, a]) - flqmi(evidence, picked) for a in set(range(8)) - set(picked)}
        assert score == pytest.approx(max(gains.values()))
        assert position == max(gains, key=lambda a: gains[a])
        picked.append(position)


@pytest.mark.parametrize("seed", range(4))
def test_gcmi_takes_the_largest_sums_of_similarity(seed):
    pool, queries = (torch.randn(n, 4, generator=seeded(seed + n), dtype=torch.float64) for n in (9, 6))
    sums = [sum(cosine(a, q) for q in queries) for a in pool]
    picks = select_gcmi(Queried(pool, queries), 4, seeded(seed))
    assert picks.positions.tolist() == sorted(range(9), key=lambda i: -sums[i])[:4]
    assert picks.scores.tolist() == pytest.approx(sorted(sums, reverse=True)[:4])


def test_flqmi_serves_every_kind_of_query_and_gcmi_the_most_frequent():
    """Ten queries like the first axis, two like the second and third; the pool is mostly of a fourth kind."""
    axes, kinds = torch.eye(4), [3] * 20 + [0] * 3 + [1] * 3 + [2] * 3
    pool = axes[kinds] + 0.01 * torch.rand(29, 4, generator=seeded())
    evidence = Queried(pool, axes[[0] * 10 + [1] * 2 + [2] * 2])
    covering = [kinds[i] for i in select_flqmi(evidence, 3, seeded()).positions.tolist()]
    assert sorted(covering) == [0, 1, 2]
    assert [kinds[i] for i in select_gcmi(evidence, 3, seeded()).positions.tolist()] == [0, 0, 0]


@pytest.mark.parametrize("select", [select_flqmi, select_gcmi])
def test_no_query_at_all_is_refused(select):
    pool = torch.rand(4, 3, generator=seeded())
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select(Queried(pool, pool[:0]), 2, seeded())
