"""Facility location: the p images that cover what they have to, by lazy greedy.

Minoux: Accelerated Greedy Algorithms for Maximizing Submodular Set Functions, 1978. Greedy is within 1 - 1/e of the
best choice (Nemhauser, Wolsey, Fisher, 1978).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.kernels import BLOCK_ENTRIES
from fkal.core.picks import Picks, refuse_beyond

Similarity = Callable[[Tensor], Tensor]
"""Candidates (r,) to their similarities with all targets (r m)."""

AT_ONCE = 16
"""Candidates whose gain is worked out anew at once."""

WORK = 1 << 37
"""Multiplications that the first look at all gains may take; some seconds on two cores."""


def affordable(n: int, width: int) -> int:
    """How many targets of n candidates of so many features can be looked at within `WORK`."""
    return max(1, WORK // (n * width))


def some(n: int, at_most: int, generator: torch.Generator) -> Int[Tensor, " s"]:
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
) -> Picks:
    """p of n candidates that greedily maximise sum_t weights_t max(covered_t, max_a s(a, t)) + sum_a bonus_a.

    The score is the gain when picked; of equals a random one is first. A gain only falls as others are picked, so
    an old one bounds it from above, and few are worked out anew. Memory grows with n + m. Raises ValueError if p
    exceeds n or a similarity is NaN.
    """
    refuse_beyond(p, n)

    def gains_of(rows: Tensor) -> Tensor:
        gains = (similarity(rows) - covered).clamp_(min=0) @ weights
        return gains if bonus is None else gains + bonus[rows]

    order = torch.randperm(n, generator=generator).to(covered.device)
    bounds = torch.cat([gains_of(rows) for rows in order.split(max(1, BLOCK_ENTRIES // len(covered)))])
    if bounds.isnan().any():
        raise ValueError("a similarity is NaN; check the model's outputs for infinite values")
    positions, scores = [], []
    for i in range(p):
        best = int(bounds.argmax()) if i == 0 else _best(bounds, order, gains_of)
        positions.append(order[best])
        scores.append(bounds[best].clone())
        covered = torch.maximum(covered, similarity(order[best : best + 1])[0])
        bounds[best] = -torch.inf
    return Picks(torch.stack(positions), scores=torch.stack(scores))


def _best(bounds: Float[Tensor, " n"], order: Int[Tensor, " n"], gains_of: Callable[[Tensor], Tensor]) -> int:
    """Where a largest gain stands; what is worked out on the way is written into the bounds."""
    width = min(AT_ONCE, len(bounds))
    while True:
        top = bounds.topk(width).indices
        top = top[bounds[top] > -torch.inf]
        bounds[top] = gains_of(order[top])
        best = top[bounds[top].argmax()]
        if bounds[best] >= bounds.max():
            return int(best)
