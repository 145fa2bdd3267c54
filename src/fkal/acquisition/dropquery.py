"""DropQuery: one image from the middle of each cluster of those whose prediction changes when features are dropped.

Gupte, Aklilu, Nirschl, Yeung-Levy: Revisiting Active Learning in the Era of Vision Foundation Models, TMLR 2024. The
features are those that enter the last layer, of unit length where they are clustered.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.acquisition.clusters import k_means
from fkal.core.evidence import LastLayer
from fkal.core.picks import Picks, first_occurrences, refuse_beyond, refuse_unfinite
from fkal.core.row_stream import Rows, joined, some, through

DROPPED = 0.75
"""The part of the features that is dropped."""

DRAWS = 3
"""So often; a majority of other predictions makes a candidate."""

ROWS_AT_ONCE = 1 << 13
"""Images whose features are dropped at once."""


def select(evidence: LastLayer, p: int, generator: torch.Generator) -> Picks:
    """The candidate nearest to the mean of each of p clusters, nearest first; then the second nearest, and so on.

    Where there are fewer than p candidates, as before the first label, the whole pool is clustered. The score is minus
    the distance to the mean.

    Args:
        evidence: Logits of the open pool, the features that enter the last layer, and its weight.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool.

    Raises:
        ValueError: p exceeds the pool, or an output is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits, evidence.pool.features, evidence.weight)
    candidates = _changes(evidence, generator).nonzero()[:, 0]
    if len(candidates) < p:
        candidates = torch.arange(evidence.n, device=candidates.device)
    rows = through(some(evidence.pool.features, candidates), normalize)
    distances, ranks = _to_own_mean(rows, k_means(rows, p, generator))
    order = distances.argsort(stable=True)
    order = order[ranks[order].argsort(stable=True)][:p]
    return Picks(candidates[order], scores=-distances[order])


def _changes(evidence: LastLayer, generator: torch.Generator) -> Bool[Tensor, " n"]:
    """Whether most predictions on what is left of the features are not the prediction on all of them."""

    def of_part(first: int) -> Bool[Tensor, " r"]:
        part = evidence.pool[slice(first, first + ROWS_AT_ONCE)]
        bias = part.logits - part.features @ evidence.weight.T
        drawn = torch.rand(DRAWS, *part.features.shape, generator=generator).to(part.features.device)
        left = part.features * (drawn >= DROPPED) / (1 - DROPPED)  # (draws r l)
        predicted = (left @ evidence.weight.T + bias).argmax(dim=2)
        return (predicted != part.logits.argmax(dim=1)).sum(dim=0) > DRAWS // 2

    return joined(map(of_part, range(0, evidence.n, ROWS_AT_ONCE)), evidence.n)


def _to_own_mean(rows: Rows, clusters: Int[Tensor, " r"]) -> tuple[Float[Tensor, " r"], Int[Tensor, " r"]]:
    """Of each row its distance to the mean of its cluster, and how many of the cluster are nearer."""
    sizes, n = clusters.bincount(), len(rows)
    parts = clusters.split(ROWS_AT_ONCE)
    sums = torch.zeros(len(sizes), rows.shape[1], dtype=rows.dtype, device=rows.device)
    for part, own in zip(rows.split(ROWS_AT_ONCE), parts, strict=True):
        sums.index_add_(0, own, part)
    means = sums / sizes[:, None].clamp(min=1)
    distances = joined(
        (
            torch.linalg.vector_norm(part - means[own], dim=1)
            for part, own in zip(rows.split(ROWS_AT_ONCE), parts, strict=True)
        ),
        n,
    )
    order = distances.argsort(stable=True)
    order = order[clusters[order].argsort(stable=True)]  # cluster by cluster, nearest first
    starts = first_occurrences(clusters[order])
    place = torch.arange(n, device=rows.device)
    ranks = torch.empty_like(place)
    ranks[order] = place - starts[torch.searchsorted(starts, place, right=True) - 1]
    return distances, ranks
