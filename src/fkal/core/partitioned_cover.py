"""Facility location of a pool that no machine holds: each part picks for itself, then the picks of all are picked from.

Each part's greedy sees all targets, which are few, and its own candidates alone; the second stage sees at most p
candidates of each part (GreeDi: Mirzasoleiman et al., Distributed Submodular Maximization, NIPS 2013).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.facility_location import EPSILON, Similarity, facility_location, rows_at_once
from fkal.core.picks import Picks, refuse_beyond


def objective(
    similarity: Similarity,
    positions: Int[Tensor, " p"],
    *,
    weights: Float[Tensor, " m"],
    covered: Float[Tensor, " m"],
    bonus: Float[Tensor, " n"] | None = None,
) -> float:
    """sum_t weights_t max(covered_t, max_a s(a, t)) + sum_a bonus_a of these picks a."""
    for part in positions.split(rows_at_once(len(covered))):
        covered = torch.maximum(covered, similarity(part).amax(dim=0))
    total = covered.double() @ weights.double()
    return float(total if bonus is None else total + bonus[positions].double().sum())


def partitioned_cover(
    similarity: Similarity,
    parts: Sequence[Int[Tensor, " _"]],
    p: int,
    *,
    weights: Float[Tensor, " m"],
    covered: Float[Tensor, " m"],
    generator: torch.Generator,
    bonus: Float[Tensor, " n"] | None = None,
    epsilon: float = EPSILON,
) -> Picks:
    """p candidates in two stages of `facility_location`: p of each part, then p of the union of these.

    Args:
        similarity: The rows s(a, .) of some candidates, by their positions in the whole pool.
        parts: Positions of each part's candidates, disjoint; what one machine holds.
        p: How many to pick, of each part and in the end.
        weights: What each target counts.
        covered: How well each target is covered already.
        generator: Source of the draws.
        bonus: What each candidate of the whole pool is worth on its own.
        epsilon: As `facility_location` takes it.

    Returns:
        Positions in the whole pool, and their gains when picked. If one part alone reached more than the union, its
        picks.

    Raises:
        ValueError: p exceeds the candidates of all parts, or a similarity is NaN.

    Example:
        >>> pool, targets = torch.eye(4), torch.eye(4)[:2]
        >>> picks = partitioned_cover(
        ...     lambda rows: pool[rows] @ targets.T, [torch.tensor([0, 2]), torch.tensor([1, 3])], 2,
        ...     weights=torch.ones(2), covered=torch.zeros(2), generator=torch.Generator().manual_seed(0),
        ... )
        >>> sorted(picks.positions.tolist())
        [0, 1]
    """
    refuse_beyond(p, sum(map(len, parts)))

    def picked(rows: Int[Tensor, " r"]) -> Picks:
        found = facility_location(
            lambda some: similarity(rows[some]),
            len(rows),
            min(p, len(rows)),
            weights=weights,
            covered=covered,
            generator=generator,
            bonus=None if bonus is None else bonus[rows],
            epsilon=epsilon,
        )
        return Picks(rows[found.positions], scores=found.scores)

    of_parts = [picked(rows.to(covered.device)) for rows in parts if len(rows)]
    if len(of_parts) == 1:
        return of_parts[0]
    union = picked(torch.cat([each.positions for each in of_parts]))
    whole = [union, *(each for each in of_parts if len(each.positions) == p)]
    reached = [objective(similarity, each.positions, weights=weights, covered=covered, bonus=bonus) for each in whole]
    return whole[reached.index(max(reached))]
