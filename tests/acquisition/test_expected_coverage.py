"""Expected coverage on evidence, against loops in float64 over the definition."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from fkal.acquisition import fisher
from fkal.acquisition.expected_coverage import select_ecov
from fkal.acquisition.fisher import select_pfk
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import FisherScores, Posteriors
from fkal.core.partitioned_cover import partitioned_cover

CLASSES = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int, *, n: int = 30, m: int = 12, certain: bool = False) -> Posteriors:
    draws = seeded(seed)

    def described(rows: int) -> Descriptors:
        return Descriptors.of({tap: torch.randn(rows, 5, generator=draws) for tap in ("a", "b")})

    posterior = torch.randn(n, CLASSES, generator=draws).mul(3).softmax(dim=1)
    labels = posterior.argmax(dim=1)
    return Posteriors(
        pool=described(n),
        targets=described(m),
        y_t=torch.randint(CLASSES, (m,), generator=draws),
        posterior=torch.nn.functional.one_hot(labels, CLASSES).float() if certain else posterior,
        pseudo_labels=labels,
        prior=None,
    )


def similarity(evidence: Posteriors) -> list[list[float]]:
    """max(0, R_z(t, a)) p(y_t | z_a); rows are pool images."""
    z, z_t = (torch.cat(list(rows.z.values()), dim=1).double() for rows in (evidence.pool, evidence.targets))
    return [
        [max(0.0, float(z[a] @ z_t[t])) * float(evidence.posterior[a, y]) for t, y in enumerate(evidence.y_t.tolist())]
        for a in range(evidence.n)
    ]


def covered(kernel: list[list[float]], picked: list[int]) -> float:
    return sum(max(kernel[a][t] for a in picked) for t in range(len(kernel[0])))


def slow(kernel: list[list[float]], p: int) -> list[int]:
    picked: list[int] = []
    for _ in range(p):
        picked.append(
            max((a for a in range(len(kernel)) if a not in picked), key=lambda a: covered(kernel, [*picked, a]))
        )
    return picked


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("certain", [False, True])
def test_the_picks_are_those_of_greedy_over_the_whole_matrix(seed, certain, monkeypatch):
    monkeypatch.setattr(fisher, "partitioned_cover", partial(partitioned_cover, epsilon=1e-300))
    evidence = made(seed, certain=certain)
    kernel = similarity(evidence)
    picks = select_ecov(evidence, 6, seeded(seed))
    assert covered(kernel, picks.positions.tolist()) == pytest.approx(covered(kernel, slow(kernel, 6)), rel=1e-5)
    assert float(picks.scores.sum()) == pytest.approx(covered(kernel, picks.positions.tolist()), rel=1e-4)
    for a, t in zip(picks.positions.tolist(), picks.targets.tolist(), strict=True):
        assert kernel[a][t] == pytest.approx(max(kernel[a]), abs=1e-6)


def test_no_more_targets_than_picks_take_their_best_matches_then_their_second_best():
    evidence = made(5, m=3)
    kernel = similarity(evidence)
    picks = select_ecov(evidence, 7, seeded())
    best = [max(range(30), key=lambda a, t=t: kernel[a][t]) for t in range(3)]
    assert set(best) <= set(picks.positions.tolist())
    assert picks.ranks.tolist() == sorted(picks.ranks.tolist())
    assert float(picks.scores.min()) >= 0


def test_a_target_whose_class_nobody_may_have_takes_the_images_that_are_most_like_it():
    """Not those that come first in a pool, which is often sorted by class."""
    evidence = replace(made(6, m=1, certain=True), y_t=torch.tensor([2]))
    evidence = replace(evidence, posterior=torch.tensor([[1.0, 0.0, 0.0]]).repeat(30, 1))
    z, z_t = (torch.cat(list(rows.z.values()), dim=1) for rows in (evidence.pool, evidence.targets))
    picks = select_ecov(evidence, 4, seeded())
    assert picks.positions.tolist() == (z @ z_t[0]).argsort(descending=True)[:4].tolist()
    assert picks.scores.tolist() == [0.0] * 4


def test_a_probable_image_goes_before_one_that_is_a_little_more_alike():
    pool = Descriptors.of({"a": torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.1, 2.0]])})
    target = Descriptors.of({"a": torch.tensor([[0.0, 1.0, 2.0]])})
    posterior = torch.tensor([[0.4, 0.6], [0.1, 0.9]])
    evidence = Posteriors(pool, target, torch.tensor([1]), posterior, torch.tensor([1, 1]), None)
    assert select_ecov(evidence, 1, seeded()).positions.tolist() == [1]
    with_g = FisherScores(
        Descriptors(pool.z, {"a": torch.tensor([[1.0], [1.0]])}),
        Descriptors(target.z, {"a": torch.tensor([[1.0]])}),
        torch.tensor([1, 1]),
    )
    assert select_pfk(with_g, 1, seeded(), combine="product", matching="coverage").positions.tolist() == [0]


def test_a_class_that_the_posterior_does_not_have_is_nobodys():
    evidence = replace(made(2), y_t=torch.full((12,), 5))
    assert len(set(select_ecov(evidence, 4, seeded()).positions.tolist())) == 4


@pytest.mark.parametrize("p", [3, 20])
def test_the_same_seed_gives_the_same_picks(p):
    first, second = (select_ecov(made(9), p, seeded(4)).positions.tolist() for _ in range(2))
    assert first == second


def test_what_cannot_be_is_refused():
    evidence = made(0)
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_ecov(replace(evidence, targets=evidence.targets[:0], y_t=evidence.y_t[:0]), 1, seeded())
    with pytest.raises(ValueError, match="31 picks of a pool of 30"):
        select_ecov(evidence, 31, seeded())
    with pytest.raises(ValueError, match="NaN or infinite"):
        select_ecov(replace(evidence, posterior=evidence.posterior * torch.nan), 1, seeded())
