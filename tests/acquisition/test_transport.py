"""The matching `transport`, held against the layers of TAROT's program by loops."""

from dataclasses import replace

import pytest
import torch

from fkal.acquisition import transport
from fkal.acquisition.fisher import select_pfk
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import FisherScores
from fkal.core.kernels import r_zg_product
from fkal.core.transport import source_potentials

N = 40


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evidence_of(m: int, seed: int) -> FisherScores:
    draws = seeded(seed)
    pool, targets = (
        Descriptors.of({"a": torch.randn(n, 6, generator=draws)}, {"a": torch.randn(n, 4, generator=draws)})
        for n in (N, m)
    )
    return FisherScores(pool, targets, torch.zeros(N, dtype=torch.long))


def picked(evidence: FisherScores, p: int, seed: int = 0):
    return select_pfk(evidence, p, seeded(seed), combine="product", matching="transport")


def by_layers(evidence: FisherScores, p: int) -> set[int]:
    """Ranks are joined while they fit; of the next one those of the largest potential."""
    similarity = r_zg_product(evidence.targets, evidence.pool).double()  # (m n)
    ranked = similarity.argsort(dim=1, descending=True, stable=True)
    chosen: set[int] = set()
    for rank in range(N):
        layer = {int(image) for image in ranked[:, rank]}
        if len(chosen | layer) <= p:
            chosen |= layer
            continue
        new = sorted(layer - chosen)
        cost = (2 - 2 * similarity[:, new].T).clamp(min=0).sqrt()
        f = source_potentials(cost)
        best = f.argsort(descending=True)[: p - len(chosen)]
        return chosen | {new[int(i)] for i in best}
    return chosen


@pytest.mark.parametrize("m", [1, 3, 12, 30])
@pytest.mark.parametrize("p", [1, 7, 20, N])
@pytest.mark.parametrize("seed", range(2))
def test_picks_are_those_of_layers_by_loops(m, p, seed):
    evidence = evidence_of(m, seed)
    picks = picked(evidence, p)
    assert set(picks.positions.tolist()) == by_layers(evidence, p)
    assert len(picks.positions) == p
    assert picks.ranks.tolist() == sorted(picks.ranks.tolist())


def test_each_pick_has_its_score_and_the_target_that_it_matches():
    evidence = evidence_of(12, 3)
    picks = picked(evidence, 15)
    kernel = r_zg_product(evidence.targets, evidence.pool)
    assert torch.allclose(picks.scores, kernel[picks.targets, picks.positions])
    for target, position, rank in zip(picks.targets, picks.positions, picks.ranks, strict=True):
        better = int((kernel[target] > kernel[target, position]).sum())
        assert better == int(rank)


def test_of_many_targets_a_drawn_part_is_matched_by_the_generator(monkeypatch):
    monkeypatch.setattr(transport, "MOST_TARGETS", 5)
    evidence = evidence_of(30, 4)
    once, again, other = (picked(evidence, 4, seed) for seed in (0, 0, 1))
    assert once.positions.tolist() == again.positions.tolist()
    assert once.positions.tolist() != other.positions.tolist()
    assert int(once.targets.max()) < 30


def test_a_constant_target_changes_no_distance_of_the_others():
    evidence = evidence_of(12, 3)
    constant = Descriptors.of({"a": torch.ones(1, 6)}, {"a": torch.ones(1, 4)})
    by_place = [
        replace(evidence, targets=Descriptors.concatenated(parts))
        for parts in ([constant, evidence.targets], [evidence.targets, constant])
    ]
    first, last = (picked(found, 15) for found in by_place)
    assert set(first.positions.tolist()) == set(last.positions.tolist()) == by_layers(by_place[1], 15)


def test_targets_that_are_all_constant_pick_as_many():
    constant = Descriptors.of({"a": torch.ones(3, 6)}, {"a": torch.ones(3, 4)})
    picks = picked(replace(evidence_of(3, 0), targets=constant), 2)
    assert len(set(picks.positions.tolist())) == 2


@pytest.mark.parametrize("p", [0, N + 1])
def test_more_picks_than_images_or_none_are_refused(p):
    with pytest.raises(ValueError, match=f"{p} picks of a pool of {N}"):
        picked(evidence_of(3, 0), p)
