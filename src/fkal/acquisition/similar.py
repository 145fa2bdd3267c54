"""SIMILAR: pool images of most mutual information with queries.

Kothawade, Beck, Killamsetty, Iyer: SIMILAR: Submodular Information Measures Based Active Learning in Realistic
Scenarios, NeurIPS 2021. Its queries are held-out images of rare classes; here they are the validation images that the
model has wrong, which asks for no knowledge of what is rare. Similarity is the cosine of the features that enter the
last layer. The paper takes last-layer gradients, those of the pool under the labels that the model predicts: where it
takes rare images for common ones, these point away from the queries' gradients under their true labels.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fkal.core.evidence import Queried
from fkal.core.facility_location import max_targets, rows_at_once, subsample
from fkal.core.partitioned_cover import partitioned_cover
from fkal.core.picks import Picks, largest, refuse_beyond, refuse_empty, refuse_unfinite
from fkal.core.pool_parts import WHOLE, Parts
from fkal.core.row_stream import Rows, RowStream, joined

ETA = 1.0
"""How much a pick's own relevance counts beside the coverage of the queries."""


def select_flqmi(evidence: Queried, p: int, generator: torch.Generator, *, parts: Parts = WHOLE) -> Picks:
    """Largest sum_q max_a s(q, a) + eta sum_a max_q s(q, a) over queries q and picks a, greedily.

    A negative similarity covers nothing. With many queries for few picks, coverage is that of a drawn part of them,
    each of which counts for more. In parts, each part of the pool picks first.
    """
    pool, queries = _unit_rows(evidence, p)
    drawn = queries[subsample(len(queries), max_targets(p), generator).to(queries.device)]
    return partitioned_cover(
        pool,
        p,
        similarity=partial(_products, queries=drawn),
        weights=torch.full_like(drawn[:, 0], len(queries) / len(drawn)),
        covered=torch.zeros_like(drawn[:, 0]),
        bonus=partial(_relevance, queries=queries),
        generator=generator,
        parts=parts,
    )


def _products(rows: Float[Tensor, "r l"], *, queries: Float[Tensor, "m l"]) -> Float[Tensor, "r m"]:
    return rows @ queries.T


def _relevance(rows: Rows, *, queries: Float[Tensor, "m l"]) -> Float[Tensor, " n"]:
    """eta max_q s(q, a) of each row a, at least 0."""
    size = rows_at_once(len(queries))
    relevance = joined(((block @ queries.T).amax(dim=1) for block in rows.split(size)), len(rows))
    return ETA * relevance.clamp(min=0)


def select_gcmi(evidence: Queried, p: int, generator: torch.Generator) -> Picks:
    """Largest 2 lambda sum_a sum_q s(q, a): each pick counts by itself, so the p largest sums are best.

    The sum over queries is an inner product with their sum, and no similarity is ever built.
    """
    pool, queries = _unit_rows(evidence, p)
    total = queries.sum(dim=0)
    sums = joined((rows @ total for rows in pool.split()), len(pool)) if isinstance(pool, RowStream) else pool @ total
    return largest(sums, p, generator)


def _unit_rows(evidence: Queried, p: int) -> tuple[Rows, Float[Tensor, "m l"]]:
    refuse_beyond(p, evidence.n)
    refuse_empty(len(evidence.queries))
    refuse_unfinite(evidence.pool, evidence.queries)
    pool, queries = evidence.pool, normalize(evidence.queries, dim=1)
    return pool.mapped(normalize) if isinstance(pool, RowStream) else normalize(pool), queries
