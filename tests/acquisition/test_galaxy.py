"""Paths and picks by loops over the lines, and lines on which the right picks are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fkal.acquisition.direct import Lines
from fkal.acquisition.galaxy import Paths, select
from fkal.core.evidence import Outputs, Supervised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def supervised(pool: Tensor, labeled: Tensor, y: Tensor) -> Supervised:
    return Supervised(Outputs(pool, pool[:, :1]), Outputs(labeled, labeled[:, :1]), y)


def on_a_line(n: int) -> Tensor:
    """Two classes, p_0 falling from row to row."""
    share = torch.linspace(0.999, 0.001, n)
    return torch.stack([share, 1 - share], dim=1).log()


def slowly(lines: Lines, n: int, p: int, classes: list[int]) -> list[int]:
    """The picks by loops."""
    paths = []
    for rank, c in enumerate(classes):
        labeled = [i for i in range(lines.w.shape[1]) if int(lines.w[c, i])]
        for a, b in pairwise(labeled):
            if int(lines.w[c, a]) != int(lines.w[c, b]):
                paths.append((b - a - 1, rank, a, c, b))
    picks: list[int] = []
    for images, _, a, c, b in sorted(paths):
        count = math.ceil(math.log2(images + 1))
        for i in range(1, count + 1):
            step = math.floor(i * (b - a) / (count + 1) + 0.5)
            picks.append(int(lines.order[c, a + step]))
    nearest = {}
    for c in classes:
        for place, row in enumerate(lines.order[c].tolist()):
            gaps = [abs(place - (a + b) / 2) for _, _, a, of, b in paths if of == c]
            nearest[row] = min([nearest.get(row, math.inf), *gaps])
    picks += sorted(range(n), key=lambda row: (nearest[row], row))
    return list(dict.fromkeys(picks))[:p]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [1, 7, 20, 60])
def test_picks_are_those_of_the_loops(seed, p):
    logits = 3 * torch.randn(75, 4, generator=seeded(seed))
    y = torch.randint(4, (15,), generator=seeded(seed + 10))
    picks = select(supervised(logits[:60], logits[60:], y), p, seeded(seed))
    classes = torch.randperm(4, generator=seeded(seed)).tolist()
    assert picks.positions.tolist() == slowly(Lines.of(logits, y), 60, p, classes)
    assert (picks.scores <= 0).all()


def test_the_shortest_path_is_divided_evenly_before_longer_ones():
    """Labels say: of class 0 up to 20, and from 60 to 63; the paths are 36..59 (23 images) and 64..99 and 21..35."""
    logits, labeled = on_a_line(120), [5, 20, 36, 60, 63, 100]
    y = torch.tensor([0, 0, 1, 0, 0, 1])
    is_open = torch.ones(120, dtype=torch.bool)
    is_open[labeled] = False
    places = torch.arange(120)[is_open]
    picks = select(supervised(logits[is_open], logits[labeled], y), 9, seeded())
    # 15 images want 4 labels, each fifth of 16 steps; 23 images 5, each sixth of 24 steps
    assert sorted(places[picks.positions].tolist()) == [23, 26, 30, 33, 40, 44, 48, 52, 56]
    assert places[picks.positions[:4]].tolist() == [23, 26, 30, 33]


def test_where_a_cut_is_known_its_surroundings_follow():
    logits, labeled = on_a_line(100), [3, 49, 50, 96]
    is_open = torch.ones(100, dtype=torch.bool)
    is_open[labeled] = False
    places = torch.arange(100)[is_open]
    picks = select(supervised(logits[is_open], logits[labeled], torch.tensor([0, 0, 1, 1])), 6, seeded())
    assert sorted(places[picks.positions].tolist()) == [46, 47, 48, 51, 52, 53]
    assert sorted(picks.scores.tolist()) == [-7, -7, -5, -5, -3, -3]  # in half images


def test_paths_as_long_are_taken_in_the_order_of_the_lines():
    logits = on_a_line(30)
    lines = Lines.of(logits, torch.tensor([0, 1]))  # rows 28 and 29, both last on the line of class 0
    first, second = (Paths.of(lines, torch.tensor(order)).line.tolist() for order in ([0, 1], [1, 0]))
    assert (first, second) == ([0, 1], [1, 0])


def test_without_a_cut_picks_are_drawn():
    logits = torch.randn(40, 3, generator=seeded(4))
    evidence = supervised(logits[:36], logits[36:], torch.zeros(4, dtype=torch.long))
    a, b, c = (set(select(evidence, 5, seeded(s)).positions.tolist()) for s in (0, 0, 1))
    assert a == b != c
    assert len(a) == 5


def test_every_position_is_picked_at_most_once_and_no_more_than_there_are():
    logits = torch.randn(45, 3, generator=seeded(2))
    evidence = supervised(logits[:30], logits[30:], torch.randint(3, (15,), generator=seeded(3)))
    assert sorted(select(evidence, 30, seeded()).positions.tolist()) == list(range(30))
    with pytest.raises(ValueError, match="31"):
        select(evidence, 31, seeded())
