"""SIMILAR: pool images of most mutual information with queries, by their last-layer gradients.

Kothawade, Beck, Killamsetty, Iyer: SIMILAR: Submodular Information Measures Based Active Learning in Realistic
Scenarios, NeurIPS 2021. Its queries are held-out images of rare classes. Here they are the validation images that the
model has wrong, which asks for no knowledge of what is rare. Similarity is the cosine of gradients, those of the pool
under the labels that the model predicts, those of the queries under their true ones.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.evidence import Queried
from fkal.core.facility_location import affordable, facility_location, some
from fkal.core.gradients import Gradients, hypothesised
from fkal.core.kernels import BLOCK_ENTRIES
from fkal.core.picks import Picks, largest, refuse_beyond, refuse_unfinite

ETA = 1.0
"""How much a pick's own relevance counts beside the coverage of the queries."""


def select_flqmi(evidence: Queried, p: int, generator: torch.Generator) -> Picks:
    """Largest sum_q max_a s(q, a) + eta sum_a max_q s(q, a) over queries q and picks a, by lazy greedy.

    A negative similarity covers nothing. Of more queries than can be looked at in some seconds a drawn part is taken.
    """
    pool, queries = _gradients(evidence, p)
    width = pool.a.shape[1] + pool.b.shape[1]
    queries = queries.rows(some(len(queries.a), affordable(evidence.n, width), generator).to(queries.a.device))

    def similarity(rows: Tensor) -> Tensor:
        return pool.rows(rows).products(queries)

    positions = torch.arange(evidence.n, device=pool.a.device)
    relevance = [similarity(rows).amax(dim=1) for rows in positions.split(max(1, BLOCK_ENTRIES // len(queries.a)))]
    nothing, one = (torch.full_like(queries.a[:, 0], value) for value in (0.0, 1.0))
    return facility_location(
        similarity,
        evidence.n,
        p,
        weights=one,
        covered=nothing,
        bonus=ETA * torch.cat(relevance).clamp(min=0),
        generator=generator,
    )


def select_gcmi(evidence: Queried, p: int, generator: torch.Generator) -> Picks:
    """Largest 2 lambda sum_a sum_q s(q, a): each pick counts by itself, so the p largest sums are best.

    With gradients a b^T the sum over queries is a^T (sum_q a_q b_q^T) b, and no similarity is ever built.
    """
    pool, queries = _gradients(evidence, p)
    return largest(_sums(pool, queries), p, generator)


def _sums(pool: Gradients, queries: Gradients) -> Float[Tensor, " n"]:
    return ((pool.a @ (queries.a.T @ queries.b)) * pool.b).sum(dim=1)


def _gradients(evidence: Queried, p: int) -> tuple[Gradients, Gradients]:
    """Of pool and queries, of unit length."""
    refuse_beyond(p, evidence.n)
    pool, queries = evidence.pool, evidence.queries
    refuse_unfinite(pool.logits, pool.features, queries.logits, queries.features)
    return hypothesised(pool).normalised(), Gradients.of(queries, evidence.y_v).normalised()
