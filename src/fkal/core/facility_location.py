"""Facility location: the p images that cover what they have to, by lazy greedy over drawn candidates.

Greedy is within 1 - 1/e of the best choice (Nemhauser, Wolsey, Fisher, 1978). A gain only falls as others are picked,
so an old one bounds it from above and few are computed again (Minoux, 1978). Where that does not help, since every
pick covers a little of everything, looking at some drawn candidates a pick costs but epsilon (Mirzasoleiman et al.,
Lazier Than Lazy Greedy, AAAI 2015).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.kernels import BLOCK_ENTRIES
from fkal.core.picks import Picks, refuse_beyond

Similarity = Callable[[Tensor], Tensor]
"""Candidates (r,) to their similarities with all targets (r m)."""

EPSILON = 0.1
"""The choice is expected to be within 1 - 1/e - epsilon of the best one."""

CANDIDATE_BATCH = 32
"""Candidates whose gain is computed again at once."""

WORK = 1 << 38
"""Multiplications that all gains may take at most; some seconds on two cores."""

BESIDE_PRODUCT = 128
"""What a similarity costs beside its inner product, in multiplications (measured)."""


def max_targets(n: int, width: int) -> int:
    """How many targets of n candidates of so many features can be covered within `WORK`."""
    return max(1, int(WORK / (n * (width + BESIDE_PRODUCT) * math.log(1 / EPSILON))))


def subsample(n: int, at_most: int, generator: torch.Generator) -> Int[Tensor, " s"]:
    """Positions drawn without replacement, in order; all of them where there are no more."""
    if n <= at_most:
        return torch.arange(n)
    return torch.randperm(n, generator=generator)[:at_most].sort().values


def facility_location(
    similarity: Similarity,
    n: int,
    p: int,
    *,
    weights: Float[Tensor, " m"],
    covered: Float[Tensor, " m"],
    generator: torch.Generator,
    bonus: Float[Tensor, " n"] | None = None,
    epsilon: float = EPSILON,
) -> Picks:
    """p of n candidates that greedily maximise sum_t weights_t max(covered_t, max_a s(a, t)) + sum_a bonus_a.

    Each is the best of n/p log(1/epsilon) drawn ones. At most n log(1/epsilon) gains are worked out; memory grows with
    n + m.

    Args:
        similarity: The rows s(a, .) of some candidates.
        n: Number of candidates.
        p: How many to pick.
        weights: What each target counts.
        covered: How well each target is covered already.
        generator: Source of the draws.
        bonus: What each candidate is worth on its own.
        epsilon: How far the expected value may stay below that of a full search.

    Returns:
        Positions; the score is the gain when picked, and of equals a random one is taken.

    Raises:
        ValueError: p exceeds n, or a similarity is NaN.
    """
    refuse_beyond(p, n)
    device = covered.device

    def gains_of(rows: Tensor) -> Tensor:
        gains = (similarity(rows) - covered).clamp_(min=0) @ weights
        if gains.isnan().any():
            raise ValueError("a similarity is NaN; check the model's outputs for infinite values")
        return gains if bonus is None else gains + bonus[rows]

    bounds = torch.full((n,), torch.inf, dtype=weights.dtype, device=device)
    is_open = torch.ones(n, dtype=torch.bool, device=device)
    size = math.ceil(n / p * math.log(1 / epsilon))
    positions, scores = [], []
    for _ in range(p):
        drawn = torch.randperm(n, generator=generator).to(device)
        best = _best(bounds, drawn[is_open[drawn]][:size], gains_of, max(1, BLOCK_ENTRIES // len(covered)))
        positions.append(best)
        scores.append(bounds[best].clone())
        is_open[best] = False
        covered = torch.maximum(covered, similarity(best[None])[0])
    return Picks(torch.stack(positions), scores=torch.stack(scores))


def _best(
    bounds: Float[Tensor, " n"], rows: Int[Tensor, " r"], gains_of: Callable[[Tensor], Tensor], block: int
) -> Int[Tensor, ""]:
    """The row of the largest gain; what is worked out on the way is written into the bounds."""
    unknown = bounds[rows].isinf()
    for part in rows[unknown].split(block):
        bounds[part] = gains_of(part) if len(part) else bounds[part]
    fresh, stale = rows[unknown], rows[~unknown]
    stale = stale[bounds[stale].argsort(descending=True, stable=True)]
    best = fresh[bounds[fresh].argmax()] if len(fresh) else None
    for part in stale.split(CANDIDATE_BATCH):
        if not len(part) or (best is not None and bounds[best] >= bounds[part[0]]):
            break
        bounds[part] = gains_of(part)
        leader = part[bounds[part].argmax()]
        best = leader if best is None or bounds[leader] > bounds[best] else best
    assert best is not None
    return best
