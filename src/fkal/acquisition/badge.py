"""BADGE: images of large and different last-layer gradients.

Ash, Zhang, Krishnamurthy, Langford, Agarwal: Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds,
ICLR 2020. k-means++ seeding on the gradients under the labels that the model predicts; no gradient is ever built.
"""

import torch

from fkal.core.evidence import LastLayer
from fkal.core.gradients import Gradients, hypothesised
from fkal.core.picks import TOO_LARGE, Picks, is_finite, refuse_beyond, refuse_unfinite


def select(evidence: LastLayer, p: int, generator: torch.Generator) -> Picks:
    """The longest gradient, then each with a probability proportional to the squared distance to the nearest picked.

    The score is that distance, of the first its length. The first is the longest as in the authors' program, where
    k-means++ draws it. Where only copies of picked images are left, they are equally likely. O(p n (d + l)) time.

    Args:
        evidence: Logits of the open pool, and the features that enter the last layer.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, in the order of picking.

    Raises:
        ValueError: p exceeds the pool, or an output or the square of a feature is not finite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.logits)
    gradients = hypothesised(evidence.pool)
    squared = gradients.squared_norm
    if not is_finite(squared):  # finite lengths come of finite features alone: mostly, one look at these is saved
        refuse_unfinite(evidence.pool.features)
        raise ValueError(TOO_LARGE)
    gap = torch.full_like(squared, torch.inf)
    is_open = torch.ones(len(gap), dtype=torch.bool, device=gap.device)
    positions, scores = [squared.argmax()], [squared.amax()]
    for _ in range(p - 1):
        gap = torch.minimum(gap, _squared_distances(gradients, squared, positions[-1]))
        is_open[positions[-1]], gap[positions[-1]] = False, 0
        chosen = _drawn(gap, is_open, generator)
        positions.append(chosen)
        scores.append(gap[chosen])
    return Picks(torch.stack(positions), scores=torch.stack(scores).sqrt_())


def _squared_distances(gradients: Gradients, squared: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """|g - g'|^2 = |g|^2 + |g'|^2 - 2 <g, g'>; rounding below 0 is cut."""
    return (squared + squared[chosen]).sub_(gradients.products(chosen), alpha=2).clamp_(min=0)


def _drawn(weights: torch.Tensor, is_open: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A position with a probability proportional to its weight; by the inverse of the running sum, in float64."""
    total = weights.cumsum(dim=0, dtype=torch.float64)
    if total[-1] <= 0:
        total = is_open.double().cumsum(dim=0)
    share = torch.rand((), generator=generator, dtype=torch.float64).to(total.device)
    return torch.searchsorted(total, share * total[-1], right=True).clamp(max=len(total) - 1)
