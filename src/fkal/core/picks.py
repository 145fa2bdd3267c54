"""From each target's best matches to p distinct pool images (Algorithm 1, line 8)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import Kernel, Matches
from fkal.core.partitioned_matches import partitioned_matches
from fkal.core.pool_parts import WHOLE, Parts
from fkal.core.row_stream import PoolDescriptors, Rows, RowStream

FIRST_WIDTH = 32
"""Matches kept of each target at the first try, as in the authors' program."""


@dataclass(frozen=True)
class Picks:
    """p distinct pool positions in the order of picking and, where the method knows, why.

    `scores` are what was maximised. Of kernel methods alone, `ranks` counts from 0 (a best match)
    and `targets` is the row of the matched target.
    """

    positions: Int[Tensor, " p"]
    ranks: Int[Tensor, " p"] | None = None
    scores: Float[Tensor, " p"] | None = None
    targets: Int[Tensor, " p"] | None = None


def refuse_beyond(p: int, n: int) -> None:
    """Raises ValueError unless 1 <= p <= n."""
    if not 1 <= p <= n:
        raise ValueError(f"{p} picks of a pool of {n}; ask for 1 to {n}")


def refuse_empty(targets: int) -> None:
    """Raises ValueError where there is nothing to pick for."""
    if targets < 1:
        raise ValueError("0 validation images to pick for; give at least one")


TOO_LARGE = "a feature is so large that its square is infinite; scale the features, or give float64"


def is_finite(values: Rows) -> bool:
    """Whether no number is NaN or infinite, in one pass and without a mask."""
    if isinstance(values, RowStream):
        return all(map(is_finite, values.split()))
    return not values.numel() or all(bool(end.isfinite()) for end in values.aminmax())


def refuse_unfinite(*values: Rows) -> None:
    """Raises ValueError for a NaN or an infinite number."""
    if not all(is_finite(value) for value in values):
        raise ValueError("a model's output is NaN or infinite; check its weights and the learning rate")


def largest(scores: Float[Tensor, " n"], p: int, generator: torch.Generator) -> Picks:
    """The p positions with the largest scores, best first; equal ones in random order.

    Scores such as vote shares have many equals, and a pool is often sorted by class, so the order
    of the pool must not decide.

    Args:
        scores: One number per open pool image.
        p: How many images to pick.
        generator: Source of the random order of equals.

    Returns:
        Positions with their scores.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> largest(torch.tensor([0.1, 0.9, 0.5]), 2, torch.Generator()).positions.tolist()
        [1, 2]
    """
    refuse_beyond(p, len(scores))
    if scores.isnan().any():
        raise ValueError("a score is NaN; check the model's outputs for infinite values")
    order = torch.randperm(len(scores), generator=generator).to(scores.device)
    positions = order[scores[order].argsort(descending=True, stable=True)[:p]]
    return Picks(positions, scores=scores[positions])


def distinct(matches: Matches, p: int) -> Picks:
    """Up to p distinct positions: all best matches first, then all second-best, and so on.

    Within a rank stronger matches come first; of equals the smaller target row.
    """
    m, k = matches.scores.shape
    by_strength = matches.scores.T.argsort(dim=1, descending=True, stable=True)  # (k m)
    positions = matches.positions.T.gather(1, by_strength).flatten()  # (k m), rank-major
    first = first_occurrences(positions)[:p]
    ranks = first // m
    targets = by_strength.flatten()[first]
    return Picks(positions[first], ranks, matches.scores[targets, ranks], targets)


def best_distinct(
    targets: Descriptors,
    pool: PoolDescriptors,
    p: int,
    *,
    kernel: Kernel,
    width: int = FIRST_WIDTH,
    parts: Parts = WHOLE,
) -> Picks:
    """p distinct pool positions that maximise the kernel, rank by rank over the targets.

    Keeps `width` matches per target and doubles that until p distinct ones are found; the picks
    are the same as from the full matrix, since a rank is read only after all ranks before it.

    Args:
        targets: Descriptors of the targets.
        pool: Descriptors of the open pool.
        p: How many images to pick.
        kernel: One of `fkal.core.kernels.R_ZG`, or `r_z`.
        width: Matches per target to begin with.
        parts: In how many parts of the pool matches are looked for, and by whom. The picks are the same.

    Returns:
        Positions with ranks, scores and the target of each.

    Raises:
        ValueError: p exceeds the pool.

    Example:
        >>> from fkal.core.kernels import r_z
        >>> pool = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])})
        >>> best_distinct(pool[:1], pool, 2, kernel=r_z).positions.tolist()
        [0, 2]
    """
    refuse_beyond(p, len(pool))
    k = min(max(width, -(-p // len(targets))), len(pool))
    while True:
        picks = distinct(partitioned_matches(targets, pool, k, kernel=kernel, parts=parts), p)
        if len(picks.positions) == p:
            return picks
        k = min(2 * k, len(pool))


def first_occurrences(values: Int[Tensor, " n"]) -> Int[Tensor, " u"]:
    """Where each distinct value stands first, in the order of standing."""
    grouped, origin = values.sort(stable=True)
    is_first = torch.ones_like(grouped, dtype=torch.bool)
    is_first[1:] = grouped[1:] != grouped[:-1]
    return origin[is_first].sort().values
