"""GALAXY: where labels change along each class's line of images.

Zhang, Katz-Samuels, Nowak: GALAXY: Graph-based Active Learning at the Extreme, ICML 2022. For each class the images
are lined up by margin, from surely in it to surely not. Between two labeled neighbours on a line of which one is of the
class and the other is not, a cut is to be found; the lines take turns, and each asks within its shortest path first.
How that is read where all labels of a round come at once says decision 010.
"""

from itertools import cycle

import torch
from jaxtyping import Int
from torch import Tensor

from fkal.acquisition.direct import Lines
from fkal.core.evidence import Supervised
from fkal.core.picks import Picks, first_occurrences, refuse_beyond, refuse_unfinite


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """The lines take turns in a drawn order; two classes have one line. Each wants, in this order:

    of its paths, the shortest first, as many images as bisecting one of u images would ask for, log2(u + 1) rounded
    up, evenly spaced, those near its middle before others; then the images nearest to the middle of any of its paths,
    of equals a drawn one. A line without a cut wants drawn images. The score is minus the distance from the nearest
    middle, in half images; of a drawn image, minus the whole line's length.
    Raises ValueError if p exceeds the pool or an output is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits, evidence.labeled.logits)
    lines = Lines.of(torch.cat([evidence.pool.logits, evidence.labeled.logits]), evidence.y)
    d = len(lines.order)
    turns = torch.randperm(1 if d == 2 else d, generator=generator).tolist()
    wanted = [_wanted(lines.w[c], p, generator) for c in turns]
    queues = [
        iter(zip(lines.order[c, places].tolist(), (-gaps.float()).tolist(), strict=True))
        for c, (places, gaps) in zip(turns, wanted, strict=True)
    ]
    picked: dict[int, float] = {}
    for queue in cycle(queues):
        row, score = next((row, score) for row, score in queue if row not in picked)  # p differ, and fewer are taken
        picked[row] = score
        if len(picked) == p:
            break
    return Picks(torch.tensor(list(picked)), scores=torch.tensor(list(picked.values())))


def _wanted(w: Int[Tensor, " m"], p: int, generator: torch.Generator) -> tuple[Int[Tensor, " r"], Int[Tensor, " r"]]:
    """The first p different places that a line wants, and how far each is from the middle of a path."""
    places = (w == 0).nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=generator).to(places.device)]
    start, end = _paths(w)
    if not len(start):
        return places[:p], torch.full_like(places[:p], 2 * len(w))
    middles = (start + end).sort().values
    gaps = _to_nearest(middles, 2 * places)
    wanted = torch.cat([_dividing(start, end), places[gaps.argsort(stable=True)]])
    wanted = wanted[first_occurrences(wanted)[:p]]
    return wanted, _to_nearest(middles, 2 * wanted)


def _paths(w: Int[Tensor, " m"]) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"]]:
    """Places of labeled neighbours that differ, those with the fewest images in between first."""
    labeled = w.nonzero()[:, 0]
    differ = (w[labeled][1:] != w[labeled][:-1]).nonzero()[:, 0]
    start, end = labeled[differ], labeled[differ + 1]
    shortest = (end - start).argsort(stable=True)
    return start[shortest], end[shortest]


def _dividing(start: Int[Tensor, " c"], end: Int[Tensor, " c"]) -> Int[Tensor, " r"]:
    """Places that divide the paths evenly, path after path, from the middle of each outwards."""
    counts = torch.frexp((end - start - 1).double()).exponent.long()  # binary digits: log2(u + 1), rounded up
    path = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    nth = torch.arange(len(path), device=counts.device) - (counts.cumsum(dim=0) - counts)[path] + 1
    parts = counts[path] + 1
    places = start[path] + (2 * nth * (end - start)[path] + parts) // (2 * parts)  # rounded
    outwards = (2 * places - (start + end)[path]).abs().argsort(stable=True)
    return places[outwards[path[outwards].argsort(stable=True)]]


def _to_nearest(sorted_values: Int[Tensor, " c"], values: Int[Tensor, " r"]) -> Int[Tensor, " r"]:
    """The distance of each value from the nearest of the sorted ones."""
    after = torch.searchsorted(sorted_values, values).clamp(max=len(sorted_values) - 1)
    before = (after - 1).clamp(min=0)
    return torch.minimum((values - sorted_values[after]).abs(), (values - sorted_values[before]).abs())
