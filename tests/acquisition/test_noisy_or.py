"""Noisy-or on evidence, against loops in float64 over the definition."""

from dataclasses import replace
from math import prod

import pytest
import torch

from fkal.acquisition.noisy_or import select_noisy_or
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import WeighedPosteriors

CLASSES = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(seed: int, *, n: int = 40, m: int = 11, labeled: int = 6) -> WeighedPosteriors:
    draws = seeded(seed)

    def described(rows: int) -> Descriptors:
        return Descriptors.of({tap: torch.randn(rows, 5, generator=draws) for tap in ("a", "b")})

    def classes(rows: int) -> torch.Tensor:
        return torch.randint(CLASSES, (rows,), generator=draws)

    return WeighedPosteriors(
        pool=described(n),
        targets=described(m),
        y_t=classes(m),
        posterior=torch.randn(n, CLASSES, generator=draws).softmax(dim=1),
        pseudo_labels=classes(n),
        prior=None,
        weights=torch.rand(m, generator=draws, dtype=torch.float64),
        doubt=torch.rand(n, generator=draws, dtype=torch.float64),
        labeled=described(labeled),
        y=classes(labeled),
        labeled_doubt=torch.rand(labeled, generator=draws, dtype=torch.float64),
        logits=None,
    )


def alike(rows: Descriptors, targets: Descriptors) -> list[list[float]]:
    """max(0, R_z), the mean over taps."""
    taps = list(rows.z)
    return [
        [
            max(0.0, sum(float(rows.z[tap][i].double() @ targets.z[tap][t].double()) for tap in taps) / len(taps))
            for t in range(len(targets))
        ]
        for i in range(len(rows))
    ]


def slow(evidence: WeighedPosteriors, p: int) -> list[int]:
    """The definition word by word, with every gain worked out every time."""
    y_t, y = evidence.y_t.tolist(), evidence.y.tolist()
    similar, known = alike(evidence.pool, evidence.targets), alike(evidence.labeled, evidence.targets)
    k = [
        [similar[a][t] * float(evidence.posterior[a, y_t[t]]) * float(evidence.doubt[a]) for t in range(len(y_t))]
        for a in range(evidence.n)
    ]
    missing = [
        prod(1 - known[i][t] * float(evidence.labeled_doubt[i]) for i in range(len(y)) if y[i] == y_t[t])
        for t in range(len(y_t))
    ]  # labeled images of t's class count as picks with p = 1

    def value(picked: list[int]) -> float:
        return sum(
            float(w) * (1 - missing[t] * prod(1 - k[a][t] for a in picked)) for t, w in enumerate(evidence.weights)
        )

    picked: list[int] = []
    for _ in range(p):
        picked.append(max((a for a in range(evidence.n) if a not in picked), key=lambda a: value([*picked, a])))
    return picked


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labeled", [0, 1, 20])
def test_the_picks_are_those_of_the_definition(seed, labeled):
    evidence = made(seed, labeled=labeled)
    picks = select_noisy_or(evidence, 9, seeded())
    assert picks.positions.tolist() == slow(evidence, 9)
    assert picks.ranks is None
    assert len(picks.targets) == len(picks.scores) == 9


@pytest.mark.parametrize("block_entries", [1, 12, 50, 1 << 20])
def test_blocks_of_any_size_give_the_same_picks(block_entries):
    evidence = made(7)
    picks = select_noisy_or(evidence, 12, seeded(), block_entries=block_entries)
    assert picks.positions.tolist() == slow(evidence, 12)


def test_fewer_images_than_targets_and_a_budget_of_the_whole_pool_come_in_greedy_order():
    evidence = made(3, n=8, m=30)
    assert select_noisy_or(evidence, 8, seeded()).positions.tolist() == slow(evidence, 8)


def test_nothing_is_drawn():
    draws, untouched = seeded(3), seeded(3)
    select_noisy_or(made(5), 9, draws)
    assert torch.equal(draws.get_state(), untouched.get_state())


def test_copies_come_in_the_order_of_the_pool():
    evidence = made(8, n=3)
    rows = torch.tensor([0, 1, 1, 0, 2, 2])
    copies = replace(
        evidence,
        pool=evidence.pool[rows],
        posterior=evidence.posterior[rows],
        pseudo_labels=evidence.pseudo_labels[rows],
        doubt=evidence.doubt[rows],
    )
    places = {position: i for i, position in enumerate(select_noisy_or(copies, 6, seeded()).positions.tolist())}
    assert places[0] < places[3] and places[1] < places[2] and places[4] < places[5]


def test_images_of_a_class_that_is_labeled_well_wait_for_those_of_one_that_is_not():
    """Two classes, one axis each. Nobody has labeled the second, which has fewer validation images."""
    axes = torch.eye(4)
    pool, targets = Descriptors.of({"a": axes[[0, 0, 1]]}), Descriptors.of({"a": axes[[0, 0, 0, 1]]})
    evidence = WeighedPosteriors(
        pool=pool,
        targets=targets,
        y_t=torch.tensor([0, 0, 0, 1]),
        posterior=torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]),
        pseudo_labels=torch.tensor([0, 0, 1]),
        prior=None,
        weights=torch.ones(4, dtype=torch.float64),
        doubt=torch.ones(3, dtype=torch.float64),
        labeled=pool[:0],
        y=torch.empty(0, dtype=torch.long),
        labeled_doubt=torch.empty(0, dtype=torch.float64),
        logits=None,
    )
    assert select_noisy_or(evidence, 1, seeded()).positions.tolist() == [0]
    labeled = Descriptors.of({"a": axes[[0]]})
    known = replace(evidence, labeled=labeled, y=torch.tensor([0]), labeled_doubt=torch.tensor([0.9]))
    assert select_noisy_or(known, 1, seeded()).positions.tolist() == [2]
    other = replace(known, y=torch.tensor([1]))  # of another class it helps nobody there
    assert select_noisy_or(other, 1, seeded()).positions.tolist() == [0]
    sure = replace(known, labeled_doubt=torch.tensor([0.1]))  # what the model is sure of has taught it little
    assert select_noisy_or(sure, 1, seeded()).positions.tolist() == [0]


def test_what_cannot_be_is_refused():
    evidence = made(0)
    with pytest.raises(ValueError, match="0 validation images to pick for; give at least one"):
        select_noisy_or(made(0, m=0), 1, seeded())
    with pytest.raises(ValueError, match="41 picks of a pool of 40"):
        select_noisy_or(evidence, 41, seeded())
    with pytest.raises(ValueError, match="NaN or infinite"):
        select_noisy_or(replace(evidence, posterior=evidence.posterior * torch.inf), 1, seeded())
