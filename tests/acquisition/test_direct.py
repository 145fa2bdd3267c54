"""Thresholds by loops over the line, and pools in which the interesting part of the line is known."""

import pytest
import torch

from fkal.acquisition.direct import Lines, select
from fkal.core.evidence import Outputs, Supervised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def supervised(pool: torch.Tensor, labeled: torch.Tensor, y: torch.Tensor) -> Supervised:
    return Supervised(Outputs(pool, pool[:, :1]), Outputs(labeled, labeled[:, :1]), y)


@pytest.mark.parametrize("seed", range(6))
def test_lines_are_those_of_the_paper(seed):
    logits = 3 * torch.randn(40, 3, generator=seeded(seed))
    y = torch.randint(3, (15,), generator=seeded(seed + 1))
    lines = Lines.of(logits, y)
    p = logits.double().softmax(dim=1)
    for c in range(3):
        margins = {i: float(p[i, c] - max(p[i, k] for k in range(3) if k != c)) for i in range(40)}
        called = [i for i in range(40) if margins[i] > 0]
        order = lines.order[c].tolist()
        assert order[: len(called)] == sorted(called, key=lambda i: -float(p[i, c]))  # the surest first
        rest = [float(p[i, c] - p[i].max()) for i in order[len(called) :]]
        assert rest == sorted(rest, reverse=True)
        w = [0 if i < 25 else 1 if int(y[i - 25]) == c else -1 for i in order]
        assert lines.w[c].tolist() == w
        right = [sum(v == 1 for v in w[:s]) + sum(v == -1 for v in w[s:]) for s in range(41)]
        assert int(lines.thresholds[c]) == right.index(max(right))
        start, end = 0, 40
        while start < 40 and w[start] != -1:
            start += 1
        start = max((i for i in range(start) if w[i] == 1), default=-1)
        last = max((i for i in range(40) if w[i] == 1), default=-1)
        end = min((i for i in range(last + 1, 40) if w[i] == -1), default=40)
        assert lines.uncertain[c].tolist() == [start < i < end for i in range(40)]


def test_picks_lie_where_the_labels_place_the_threshold_and_not_where_the_model_does():
    """A line of falling p_0. The model's boundary is at 50; labels say that class 0 ends at 20."""
    share = torch.linspace(0.999, 0.001, 100)
    logits = torch.stack([share, 1 - share], dim=1).log()
    labeled = [5, 10, 19, 21, 30, 45, 60, 80]
    y = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    is_open = torch.ones(100, dtype=torch.bool)
    is_open[labeled] = False
    places = torch.arange(100)[is_open]
    picks = select(supervised(logits[is_open], logits[labeled], y), 6, seeded())
    assert set(places[picks.positions].tolist()) == {16, 17, 18, 20, 22, 23}
    assert int(places[picks.positions[0]]) == 20  # all that is uncertain
    assert (picks.scores <= 0).all()


def test_without_any_label_of_a_class_its_surest_images_are_asked_for():
    logits = 3 * torch.randn(60, 4, generator=seeded(1))
    logits[:, 3] -= 4  # never predicted
    y = logits[40:].argmax(dim=1)
    lines = Lines.of(logits, y)
    assert int(lines.thresholds[3]) == 0
    surest = {i for i in lines.order[3, :12].tolist() if i < 40}
    picks = select(supervised(logits[:40], logits[40:], y), 16, seeded())
    assert surest & set(picks.positions.tolist())


@pytest.mark.parametrize("p", [1, 5, 30])
def test_every_position_is_picked_at_most_once(p):
    logits = torch.randn(45, 3, generator=seeded(2))
    y = torch.randint(3, (15,), generator=seeded(3))
    picks = select(supervised(logits[:30], logits[30:], y), p, seeded())
    assert len(set(picks.positions.tolist())) == p
    assert int(picks.positions.max()) < 30


def slow(evidence: Supervised, p: int, generator: torch.Generator) -> list[int]:
    """The picks by sorted lists, class by class: a threshold by trying all, a region by its two ends."""
    n, m = evidence.n, evidence.n + len(evidence.y)
    logits = torch.cat([evidence.pool.logits, evidence.labeled.logits]).double()
    probabilities = logits.softmax(dim=1).tolist()
    d = logits.shape[1]
    orders, regions, thresholds = [], [], []
    for c in range(d):
        margins = [row[c] - max(row) + 1e-8 * max(row) for row in probabilities]
        order = sorted(range(m), key=lambda i, margins=margins: -margins[i])
        label = [None if i < n else int(evidence.y[i - n]) == c for i in order]
        right = [label[:s].count(True) + label[s:].count(False) for s in range(m + 1)]
        orders.append(order)
        thresholds.append(right.index(max(right)))
        first_out = label.index(False) if False in label else m
        last_in = max((s for s, is_in in enumerate(label) if is_in), default=-1)
        start = max((s for s in range(first_out) if label[s]), default=-1)
        end = min((s for s in range(last_in + 1, m) if label[s] is False), default=m)
        regions.append(range(start + 1, end))
    picked: list[int] = []
    for c in torch.randperm(d, generator=generator).tolist():
        places = [s for s in regions[c] if orders[c][s] < n and orders[c][s] not in picked]
        drawn = torch.randperm(len(places), generator=generator).tolist()[: p // d // 2]
        picked += [orders[c][places[k]] for k in drawn]
    rest = p - len(picked)
    for k, c in enumerate(torch.randperm(d, generator=generator).tolist()):
        share = rest * (k + 1) // d - rest * k // d
        places = [s for s in range(m) if orders[c][s] < n and orders[c][s] not in picked]
        between = {s: s - thresholds[c] if s >= thresholds[c] else thresholds[c] - 1 - s for s in places}
        picked += [orders[c][s] for s in sorted(places, key=lambda s, between=between: between[s])[:share]]
    return picked


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [1, 7, 25])
def test_picks_are_those_of_sorted_lists(seed, p):
    logits = 2 * torch.randn(60, 4, generator=seeded(seed))
    y = torch.randint(4, (20,), generator=seeded(seed + 1))
    evidence = supervised(logits[:40], logits[40:], y)
    assert select(evidence, p, seeded(seed)).positions.tolist() == slow(evidence, p, seeded(seed))
