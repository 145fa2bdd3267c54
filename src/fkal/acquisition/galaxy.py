"""GALAXY: where labels change along each class's line of images, shortest stretches first.

Zhang, Katz-Samuels, Nowak: GALAXY: Graph-based Active Learning at the Extreme, ICML 2022. For each class the images
are lined up by margin, from surely in it to surely not. Between two labeled neighbours on a line of which one is of the
class and one is not there is a cut; the path between them is bisected, the shortest one of all lines first, and what
lies around the cuts follows.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from fkal.acquisition.direct import Lines
from fkal.core.evidence import Supervised
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """Of a path of u images as many as its bisection would ask for, log2(u + 1) rounded up, evenly spaced.

    The paper bisects by labels that it sees one at a time; here all labels of an iteration come at once, and as many of
    them narrow a cut down most if they divide its path evenly. What is left of p are the images nearest to the middle
    of any path. The score is minus that distance, in half images. Of paths as long, those of a drawn class come first.
    Without a cut (labels of a single class) picks are drawn.
    Raises ValueError if p exceeds the pool or an output is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits, evidence.labeled.logits)
    lines = Lines.of(torch.cat([evidence.pool.logits, evidence.labeled.logits]), evidence.y)
    paths = Paths.of(lines, torch.randperm(len(lines.order), generator=generator))
    if not len(paths.line):
        drawn = torch.randperm(evidence.n, generator=generator)[:p]
        return Picks(drawn, scores=torch.zeros(p))
    distance = _distances(lines, paths)
    rows = torch.cat([_dividing(lines, paths), distance.argsort(stable=True)])
    rows = _distinct(rows[rows < evidence.n], p)
    return Picks(rows.cpu(), scores=-distance[rows].float().cpu())


@dataclass(frozen=True)
class Paths:
    """The stretches between labeled neighbours that differ, the shortest first: on which line, from where to where.

    `start` and `end` are the places of the labeled images themselves.
    """

    line: Int[Tensor, " c"]
    start: Int[Tensor, " c"]
    end: Int[Tensor, " c"]

    @property
    def images(self) -> Int[Tensor, " c"]:
        """How many without a label lie in between."""
        return self.end - self.start - 1

    @property
    def twice_middle(self) -> Int[Tensor, " c"]:
        return self.start + self.end

    @staticmethod
    def of(lines: Lines, order: Int[Tensor, " d"]) -> "Paths":
        """Of paths as long, lines in the given order."""
        order = order.to(lines.w.device)
        line, place = lines.w[order].nonzero(as_tuple=True)
        label = lines.w[order][line, place]
        differs = ((line[1:] == line[:-1]) & (label[1:] != label[:-1])).nonzero()[:, 0]
        start, end = place[differs], place[differs + 1]
        shortest = (end - start).argsort(stable=True)
        return Paths(order[line[differs]][shortest], start[shortest], end[shortest])


def _dividing(lines: Lines, paths: Paths) -> Int[Tensor, " r"]:
    """Rows that divide the paths evenly, path after path."""
    images = paths.images
    counts = torch.frexp(images.double()).exponent.long()  # binary digits: log2(images + 1), rounded up
    path = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    nth = torch.arange(len(path), device=counts.device) - (counts.cumsum(dim=0) - counts)[path] + 1
    parts = counts[path] + 1
    steps = (2 * nth * (images[path] + 1) + parts) // (2 * parts)  # rounded
    return lines.order[paths.line[path], paths.start[path] + steps]


def _distances(lines: Lines, paths: Paths) -> Int[Tensor, " m"]:
    """How far each row is from the middle of a path, on the line where it is nearest to one, in half images."""
    d, m = lines.order.shape
    nearest = torch.full((m,), 2 * m, device=lines.order.device)
    places = 2 * torch.arange(m, device=lines.order.device)
    for line in paths.line.unique().tolist():
        middles = paths.twice_middle[paths.line == line].sort().values
        after = torch.searchsorted(middles, places).clamp(max=len(middles) - 1)
        gaps = torch.minimum((places - middles[after]).abs(), (places - middles[(after - 1).clamp(min=0)]).abs())
        rows = lines.order[line]
        nearest[rows] = torch.minimum(nearest[rows], gaps)
    return nearest


def _distinct(rows: Int[Tensor, " r"], p: int) -> Int[Tensor, " p"]:
    """The first p different ones, in order."""
    _, inverse = rows.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(rows), device=rows.device)
    first.scatter_reduce_(0, inverse, torch.arange(len(rows), device=rows.device), reduce="amin")
    return rows[first.sort().values[:p]]
