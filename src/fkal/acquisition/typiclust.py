"""TypiClust: the most typical image of each cluster that no label covers.

Hacohen, Dekel, Weinshall: Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets, ICML 2022.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.acquisition.clusters import k_means
from fkal.core.evidence import Supervised
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite

NEIGHBOURS = 20
"""Those that typicality is the mean distance to."""

MOST_CLUSTERS = 500
"""Of more, clusters would hold too few images (both as in the authors' program)."""

SMALL = 5
"""Clusters of no more images come last."""


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """Clusters by few labels, then by many images, in turn; of each the most typical open image, then the next.

    The features that enter the last layer, brought to unit length, are put into as many clusters as there will be
    labels. Typicality is 1 / the mean distance to the nearest 20 open images of the cluster (half of a smaller one);
    the score. Raises ValueError if p exceeds the pool or a feature is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.features, evidence.labeled.features)
    rows = normalize(torch.cat([evidence.pool.features, evidence.labeled.features]), dim=1)
    clusters = k_means(rows, min(len(evidence.labeled) + p, MOST_CLUSTERS), generator)
    return _in_turn(rows[: evidence.n], clusters, p)


def _in_turn(rows: Float[Tensor, "n l"], clusters: Int[Tensor, " m"], p: int) -> Picks:
    """p of the rows, the first n of those that were clustered."""
    of_row = clusters[: len(rows)]
    is_open = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    order = _order(clusters, len(rows))
    positions: list[Tensor] = []
    scores: list[Tensor] = []
    while len(positions) < p:
        for cluster in order:
            members = ((of_row == cluster) & is_open).nonzero()[:, 0]
            if not len(members):
                continue
            best, score = _most_typical(rows[members])
            positions.append(members[best])
            scores.append(score)
            is_open[members[best]] = False
            if len(positions) == p:
                break
    return Picks(torch.stack(positions), scores=torch.stack(scores))


def _order(clusters: Int[Tensor, " m"], n: int) -> list[int]:
    """Clusters with open images: none that is small before one that is not, then few labels first, then large ones."""
    k = int(clusters.max()) + 1
    sizes, labels = torch.bincount(clusters, minlength=k), torch.bincount(clusters[n:], minlength=k)
    with_open = (sizes > labels).nonzero()[:, 0].tolist()
    return sorted(with_open, key=lambda c: (int(sizes[c]) <= SMALL, int(labels[c]), -int(sizes[c])))


def _most_typical(rows: Float[Tensor, "r l"]) -> tuple[Int[Tensor, ""], Float[Tensor, ""]]:
    """Its place and its typicality; a row alone has infinite typicality."""
    k = min(NEIGHBOURS, len(rows) // 2)
    if k == 0:
        return torch.tensor(0, device=rows.device), torch.tensor(torch.inf, device=rows.device)
    distances = torch.cdist(rows, rows).fill_diagonal_(torch.inf)
    typicality = 1 / distances.topk(k, dim=1, largest=False).values.mean(dim=1)
    best = typicality.argmax()
    return best, typicality[best]
