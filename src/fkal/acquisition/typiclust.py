"""TypiClust: the most typical image of each cluster that no label covers.

Hacohen, Dekel, Weinshall: Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets, ICML 2022.
"""

from collections.abc import Iterator
from itertools import chain, islice

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.acquisition.clusters import k_means
from fkal.core.evidence import Supervised
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite
from fkal.core.row_stream import Rows, below, through

NEIGHBOURS = 20
"""Those that typicality is the mean distance to."""

MOST_CLUSTERS = 500
"""Of more, clusters would hold too few images (both as in the authors' program)."""

ENTRIES = 1 << 26
"""Distances within a cluster that are in memory at once: 256 MiB of float32, a cluster of 8,192 images whole."""

SMALL = 5
"""Clusters of no more images wait until the others are used up; the authors' program drops them."""


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """Clusters by few labels, then by many images, in turns; from each the most typical open image, then the next.

    The features that enter the last layer, brought to unit length, are put into as many clusters as there will be
    labels. Typicality is 1 / the mean distance to the nearest 20 open images of the cluster (half of a smaller one);
    the score. Raises ValueError if p exceeds the pool or a feature is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.features, evidence.labeled.features)
    rows = through(below(evidence.pool.features, evidence.labeled.features), normalize)
    clusters = k_means(rows, min(len(evidence.labeled) + p, MOST_CLUSTERS), generator)
    sizes, labels = torch.bincount(clusters), torch.bincount(clusters[evidence.n :], minlength=int(clusters.max()) + 1)
    members = clusters[: evidence.n].argsort(stable=True).split((sizes - labels).tolist())
    turns = [_in_turns(rows, [members[c] for c in part]) for part in _large_and_small(sizes, labels)]
    picked = list(islice(chain.from_iterable(turns), p))
    return Picks(torch.stack([row for row, _ in picked]), scores=torch.stack([score for _, score in picked]))


def _large_and_small(sizes: Int[Tensor, " k"], labels: Int[Tensor, " k"]) -> tuple[list[int], list[int]]:
    """Clusters with open images, those of few labels first, then large ones: above `SMALL` images, and the others."""
    with_open = (sizes > labels).nonzero()[:, 0].tolist()
    order = sorted(with_open, key=lambda c: (int(labels[c]), -int(sizes[c])))
    return [c for c in order if sizes[c] > SMALL], [c for c in order if sizes[c] <= SMALL]


def _in_turns(rows: Rows, clusters: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The most typical image of each cluster and its typicality, then the next of each, until none is left."""
    while clusters:
        left = []
        for members in clusters:
            best, score = _most_typical(rows[members])
            yield members[best], score
            left.append(torch.cat([members[:best], members[best + 1 :]]))
        clusters = [members for members in left if len(members)]


def _most_typical(rows: Float[Tensor, "r l"]) -> tuple[Int[Tensor, ""], Float[Tensor, ""]]:
    """Its place and its typicality; a row alone has infinite typicality."""
    k = min(NEIGHBOURS, len(rows) // 2)
    if k == 0:
        return torch.tensor(0, device=rows.device), torch.tensor(torch.inf, device=rows.device)
    size = max(1, ENTRIES // len(rows))
    typicality = torch.cat([_typicality(rows, first, size, k) for first in range(0, len(rows), size)])
    best = typicality.argmax()
    return best, typicality[best]


def _typicality(rows: Float[Tensor, "r l"], first: int, size: int, k: int) -> Float[Tensor, " b"]:
    """Of `size` rows from the first on."""
    distances = torch.cdist(rows[first : first + size], rows)
    distances.diagonal(first).fill_(torch.inf)  # a row is no neighbour of itself
    return 1 / distances.topk(k, dim=1, largest=False, sorted=False).values.mean(dim=1)
