"""BoSS, an oracle: of many batches of ten strategies the one that teaches most, by true labels.

Huseljic, Hahn, Herde, Sandrock, Sick: BoSS: A Best-of-Strategies Selector as an Oracle for Deep Active Learning, CVPR
2026. It shows what choosing alone could reach, and is no method: it reads the labels of the pool.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.acquisition.badge import select as select_badge
from fkal.acquisition.bait import select as select_bait
from fkal.acquisition.confidence import select_margin
from fkal.acquisition.coreset import select as select_coreset
from fkal.acquisition.coverage import select_maxherding, select_uherding
from fkal.acquisition.dropquery import select as select_dropquery
from fkal.acquisition.typiclust import select as select_typiclust
from fkal.core.evidence import Calibrated, Coverage, LastLayer, Predictions, Revealed, Supervised
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite
from fkal.core.softmax_regression import regressed, with_one

BATCHES = 100
"""Candidates."""
LEAST_PART, MOST_PART = 4, 5000
"""A strategy sees a drawn part of the pool: at least so many times the picks, and up to so many images."""
PENALTY = 1e-3
"""Of the head that is fitted to each batch: of the mean loss, on the squared weights."""

Strategy = Callable[[Revealed, int, torch.Generator], Picks]


def select(evidence: Revealed, p: int, generator: torch.Generator) -> Picks:
    """The batch of least mean error over the classes of the validation images, the first of equals.

    Each batch is of a strategy that is drawn, on a part of the open pool that is drawn. A linear head is then fitted,
    from zero, to the last layer's features of the labeled images and of the batch, with their true labels. Before the
    first label strategies that ask the model are left out. Raises ValueError if p exceeds the pool or a number is not
    finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits, evidence.pool.features, evidence.labeled.features, evidence.known.features)
    names = sorted(STRATEGIES if len(evidence.labeled) else WITHOUT_MODEL)
    errors: dict[tuple[int, ...], float] = {}
    for place in torch.randint(len(names), (BATCHES,), generator=generator).tolist():
        rows = _drawn_part(evidence.n, p, generator)
        picks = STRATEGIES[names[place]](evidence.part(rows), p, generator)
        batch = tuple(rows[picks.positions.cpu()].sort().values.tolist())
        if batch not in errors:
            errors[batch] = _error(evidence, torch.tensor(batch))
    best = min(errors, key=errors.__getitem__)
    return Picks(torch.tensor(best))


def _drawn_part(n: int, p: int, generator: torch.Generator) -> Int[Tensor, " r"]:
    low, high = min(LEAST_PART * p, n), max(min(MOST_PART, n), min(LEAST_PART * p, n))
    size = int(torch.randint(low, high + 1, (), generator=generator))
    return torch.randperm(n, generator=generator)[:size].sort().values


def _error(evidence: Revealed, batch: Int[Tensor, " p"]) -> float:
    """Mean over classes of the share of validation images that a head of these labels gets wrong."""
    known, rows = evidence.known.features, batch.to(evidence.y_pool.device)
    mean, scale = known.mean(dim=0), known.std(dim=0, unbiased=False)
    scale = torch.where(scale > 0, scale, 1)

    def inputs(features: Float[Tensor, "n l"]) -> Float[Tensor, "n l1"]:
        return with_one((features - mean) / scale)

    x = inputs(torch.cat([evidence.labeled.features, evidence.pool.features[rows]]))
    y = torch.cat([evidence.y, evidence.y_pool[rows]])
    d = evidence.pool.logits.shape[1]
    weight = regressed(x, y, PENALTY, all_y=y, classes=d)
    wrong = ((inputs(known) @ weight).argmax(dim=1) != evidence.y_v).double()
    counts = evidence.y_v.bincount(minlength=d)
    by_class = torch.zeros(d, dtype=torch.float64, device=known.device).index_add_(0, evidence.y_v, wrong)
    return float((by_class / counts.clamp(min=1)).sum() / (counts > 0).sum())


def _class_by_class(evidence: Revealed, p: int, generator: torch.Generator) -> Picks:
    """TypiClass: the class with fewest labels takes the image nearest to the mean of those that it has left."""
    features, counts = evidence.pool.features, evidence.y.bincount(minlength=evidence.pool.logits.shape[1]).tolist()
    left = {c: _Left.of(features, (evidence.y_pool == c).nonzero()[:, 0]) for c in range(len(counts))}
    picked: list[Tensor] = []
    while len(picked) < p:
        c = min((c for c, each in left.items() if len(each.rows)), key=lambda c: counts[c])
        nearest, left[c] = left[c].without_nearest()
        picked.append(nearest)
        counts[c] += 1
    return Picks(torch.stack(picked))


class _Left(NamedTuple):
    """Images of a class that are not picked, and their features."""

    rows: Int[Tensor, " r"]
    features: Float[Tensor, "r l"]

    @staticmethod
    def of(features: Float[Tensor, "n l"], rows: Int[Tensor, " r"]) -> "_Left":
        return _Left(rows, features[rows])

    def without_nearest(self) -> tuple[Int[Tensor, ""], "_Left"]:
        """The image of the least sum of squared distances to the others, and the others."""
        place = (self.features - self.features.mean(dim=0)).square().sum(dim=1).argmin()
        rest = torch.arange(len(self.rows), device=place.device) != place
        return self.rows[place], _Left(self.rows[rest], self.features[rest])


def _at_random(evidence: Revealed, p: int, generator: torch.Generator) -> Picks:
    return Picks(torch.randperm(evidence.n, generator=generator)[:p])


def _last_layer(evidence: Revealed) -> LastLayer:
    return LastLayer(evidence.pool, evidence.weight)


def _supervised(evidence: Revealed) -> Supervised:
    return Supervised(evidence.pool, evidence.labeled, evidence.y)


def _calibrated(evidence: Revealed) -> Calibrated:
    return Calibrated(evidence.pool, evidence.labeled, evidence.y, evidence.known.logits, evidence.y_v)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "random": _at_random,
        "margin": lambda e, p, g: select_margin(Predictions(e.pool.logits), p, g),
        "coreset": lambda e, p, g: select_coreset(Coverage(e.pool.features, e.labeled.features), p, g),
        "badge": lambda e, p, g: select_badge(_last_layer(e), p, g),
        "bait": lambda e, p, g: select_bait(_supervised(e), p, g),
        "typiclust": lambda e, p, g: select_typiclust(_supervised(e), p, g),
        "dropquery": lambda e, p, g: select_dropquery(_last_layer(e), p, g),
        "maxherding": lambda e, p, g: select_maxherding(_supervised(e), p, g),
        "uherding": lambda e, p, g: select_uherding(_calibrated(e), p, g),
        "typiclass": _class_by_class,
    }
)
WITHOUT_MODEL = frozenset({"random", "coreset", "typiclust", "maxherding", "typiclass"})
