"""Turns, paths and picks by loops over the lines, and lines on which the right picks are known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fkal.acquisition.direct import Lines
from fkal.acquisition.galaxy import select
from fkal.core.evidence import Outputs, Supervised


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def supervised(pool: Tensor, labeled: Tensor, y: Tensor) -> Supervised:
    return Supervised(Outputs(pool, pool[:, :1]), Outputs(labeled, labeled[:, :1]), y)


def on_a_line(n: int) -> Tensor:
    """Two classes, p_0 falling from row to row."""
    share = torch.linspace(0.999, 0.001, n)
    return torch.stack([share, 1 - share], dim=1).log()


def picked_places(n: int, labeled: list[int], y: list[int], p: int, *, seed: int = 0) -> list[int]:
    """Of a line of n images of two classes some of which are labeled, the places picked."""
    logits = on_a_line(n)
    is_open = torch.ones(n, dtype=torch.bool)
    is_open[labeled] = False
    picks = select(supervised(logits[is_open], logits[labeled], torch.tensor(y)), p, seeded(seed))
    return torch.arange(n)[is_open][picks.positions].tolist()


def slowly(lines: Lines, p: int, generator: torch.Generator) -> list[int]:
    """The picks by loops, draws in the same order."""
    d, m = lines.order.shape
    turns = torch.randperm(1 if d == 2 else d, generator=generator).tolist()
    wanted = []
    for c in turns:
        w = lines.w[c].tolist()
        places = [i for i in range(m) if not w[i]]
        places = [places[i] for i in torch.randperm(len(places), generator=generator).tolist()]
        labeled = [i for i in range(m) if w[i]]
        paths = sorted((b - a, a, b) for a, b in pairwise(labeled) if w[a] != w[b])
        wants = []
        for length, a, b in paths:
            count = math.ceil(math.log2(length))
            steps = [math.floor(i * length / (count + 1) + 0.5) for i in range(1, count + 1)]
            wants += sorted((a + step for step in steps), key=lambda place: abs(place - (a + b) / 2))
        if paths:
            places.sort(key=lambda place: min(abs(place - (a + b) / 2) for _, a, b in paths))
        wanted.append([int(lines.order[c, place]) for place in dict.fromkeys([*wants, *places])])
    picks: list[int] = []
    while len(picks) < p:
        for wants in wanted:
            if len(picks) < p:
                picks.append(next(row for row in wants if row not in picks))
    return picks


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [1, 7, 20, 60])
@pytest.mark.parametrize("d", [2, 4])
def test_picks_are_those_of_the_loops(seed, p, d):
    logits = 3 * torch.randn(75, d, generator=seeded(seed))
    y = torch.randint(d, (15,), generator=seeded(seed + 10))
    picks = select(supervised(logits[:60], logits[60:], y), p, seeded(seed))
    assert picks.positions.tolist() == slowly(Lines.of(logits, y), p, seeded(seed))
    assert (picks.scores <= 0).all()


def test_the_shortest_path_is_divided_evenly_before_longer_ones():
    """Labels say: of class 0 up to 20, and from 60 to 63; the paths are 21..35, 37..59 and 64..99."""
    places = picked_places(120, [5, 20, 36, 60, 63, 100], [0, 0, 1, 0, 0, 1], 9)
    assert sorted(places[:4]) == [23, 26, 30, 33]  # of 15 images 4, each fifth of 16 steps
    assert sorted(places[4:]) == [40, 44, 48, 52, 56]  # of 23 images 5, each sixth of 24 steps
    assert places[4] == 48  # the middle before the rest


def test_where_a_cut_is_known_its_surroundings_follow():
    assert sorted(picked_places(100, [3, 49, 50, 96], [0, 0, 1, 1], 6)) == [46, 47, 48, 51, 52, 53]


def test_classes_take_turns_however_short_the_paths_of_some_are():
    """Four classes, of which the last is labeled once: its line has its share all the same."""
    logits = 4 * torch.randn(400, 4, generator=seeded(3))
    y = torch.tensor([0, 1, 2] * 20)
    y[7] = 3
    logits[340 + 7, 3] += 9
    lines = Lines.of(logits, y)
    positions = select(supervised(logits[:340], logits[340:], y), 40, seeded()).positions.tolist()
    place = {int(row): i for i, row in enumerate(lines.order[3])}
    last = max(i for i in range(400) if int(lines.w[3, i]) == 1)
    end = min(i for i in range(last + 1, 400) if int(lines.w[3, i]) == -1)
    # the place of the cut after the only label of the class, or as near to it as to be asked for next
    assert sum(abs(place[row] - (last + end) / 2) <= (end - last) / 2 + 10 for row in positions) >= 8


def test_a_line_without_a_cut_wants_drawn_images():
    logits = torch.randn(40, 3, generator=seeded(4))
    evidence = supervised(logits[:36], logits[36:], torch.zeros(4, dtype=torch.long))
    a, b, c = (set(select(evidence, 5, seeded(s)).positions.tolist()) for s in (0, 0, 1))
    assert a == b != c
    assert len(a) == 5


def test_of_images_as_near_a_drawn_one_comes_first():
    firsts = {picked_places(100, [3, 49, 50, 96], [0, 0, 1, 1], 1, seed=s)[0] for s in range(20)}
    assert firsts == {48, 51}


def test_every_position_is_picked_at_most_once_and_no_more_than_there_are():
    logits = torch.randn(45, 3, generator=seeded(2))
    evidence = supervised(logits[:30], logits[30:], torch.randint(3, (15,), generator=seeded(3)))
    assert sorted(select(evidence, 30, seeded()).positions.tolist()) == list(range(30))
    with pytest.raises(ValueError, match="31"):
        select(evidence, 31, seeded())
