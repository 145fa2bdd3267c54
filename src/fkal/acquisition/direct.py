"""DIRECT: around each class's threshold, which labels so far place best.

Nuggehalli, Zhang, Jain, Nowak: DIRECT: Deep Active Learning under Imbalance and Label Noise, 2023 (arXiv 2312.09196;
ICML 2025 as Improved Algorithm for Deep Active Learning under Imbalance via Optimal Separation). For each class the
images are sorted by margin, from surely in it to surely not; active learning of one threshold on that line.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fkal.core.evidence import Supervised
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite

TIE = 1e-8
"""Of images that a class is predicted for, the surer comes first by so much, as in the authors' program."""


@dataclass(frozen=True)
class Lines:
    """For each of d classes all images in the order of falling margin, and what is known of them.

    `order` holds rows, open images before labeled ones; `w` is 1 for a label of the class, -1 for another, 0 for none.
    """

    order: Int[Tensor, "d m"]
    w: Int[Tensor, "d m"]

    @staticmethod
    def of(logits: Float[Tensor, "m d"], y: Int[Tensor, " l"]) -> "Lines":
        """The last l of the rows are labeled."""
        p = logits.double().softmax(dim=1)
        surest = p.amax(dim=1, keepdim=True)
        order = (p - surest + TIE * surest).T.argsort(dim=1, descending=True, stable=True)
        d, m = order.shape
        known = torch.zeros(d, m, dtype=torch.long, device=y.device)
        known[:, m - len(y) :] = torch.where(y == torch.arange(d, device=y.device)[:, None], 1, -1)
        return Lines(order, known.gather(1, order))

    @property
    def thresholds(self) -> Int[Tensor, " d"]:
        """How many images at the front to call of the class, so that most labels are right; of equals the fewest."""
        right = torch.nn.functional.pad(self.w.cumsum(dim=1), (1, 0))
        return right.argmax(dim=1)

    @property
    def uncertain(self) -> Bool[Tensor, "d m"]:
        """Behind the last label of the class before any other, before the first other label after all of the class."""
        m = self.w.shape[1]
        places = torch.arange(m, device=self.w.device).expand_as(self.w)
        is_in, is_out = self.w == 1, self.w == -1
        first_out = torch.where(is_out, places, m).amin(dim=1, keepdim=True)
        last_in = torch.where(is_in, places, -1).amax(dim=1, keepdim=True)
        start = torch.where(is_in & (places < first_out), places, -1).amax(dim=1, keepdim=True)
        end = torch.where(is_out & (places > last_in), places, m).amin(dim=1, keepdim=True)
        return (places > start) & (places < end)


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """Half of the picks from the classes' regions of uncertainty, at random; half nearest to their thresholds.

    Classes share alike, in a drawn order. The score is minus the number of images between a pick and its class's
    threshold. All labels of a round come at once, so the second half does not know those of the first.
    Raises ValueError if p exceeds the pool or an output is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits, evidence.labeled.logits)
    lines = Lines.of(torch.cat([evidence.pool.logits, evidence.labeled.logits]), evidence.y)
    picking = _Picking(lines, evidence.n)
    d = len(lines.order)
    for c in torch.randperm(d, generator=generator).tolist():
        picking.take_uncertain(c, p // d // 2, generator)
    rest = p - len(picking.positions)
    for i, c in enumerate(torch.randperm(d, generator=generator).tolist()):
        picking.take_nearest(c, rest * (i + 1) // d - rest * i // d)
    return Picks(torch.tensor(picking.positions), scores=torch.tensor(picking.scores))


class _Picking:
    """What is picked so far, none twice."""

    def __init__(self, lines: Lines, n: int) -> None:
        self._lines = lines
        self._is_open = torch.arange(lines.order.shape[1], device=lines.order.device) < n
        places = torch.arange(lines.order.shape[1], device=lines.order.device)
        right = places - lines.thresholds[:, None]
        self._gaps = torch.where(right >= 0, right, -1 - right)  # images between a place and the threshold
        self._uncertain = lines.uncertain
        self.positions: list[int] = []
        self.scores: list[float] = []

    def take_uncertain(self, c: int, count: int, generator: torch.Generator) -> None:
        order = self._lines.order[c]
        places = (self._uncertain[c] & self._is_open[order]).nonzero()[:, 0]
        drawn = torch.randperm(len(places), generator=generator)[:count].to(places.device)
        self._take(c, places[drawn])

    def take_nearest(self, c: int, count: int) -> None:
        places = self._is_open[self._lines.order[c]].nonzero()[:, 0]
        self._take(c, places[self._gaps[c, places].argsort(stable=True)[:count]])

    def _take(self, c: int, places: Int[Tensor, " t"]) -> None:
        rows = self._lines.order[c, places]
        self._is_open[rows] = False
        self.positions += rows.tolist()
        self.scores += (-self._gaps[c, places].float()).tolist()
