"""Entropic optimal transport: what a unit of mass at each source costs to move (a dual potential).

Cuturi, Sinkhorn Distances: Lightspeed Computation of Optimal Transport, NeurIPS 2013. Sums are of logarithms, and the
entropy's weight falls in steps to its last value, from where earlier potentials are good starts (Schmitzer, Stabilized
Sparse Scaling Algorithms for Entropy Regularized Transport Problems, SIAM Journal on Scientific Computing 2019).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

BLUR = 0.01
"""Distances below this are blurred; its square is the weight of the entropy, as in TAROT's program."""

STEP = 0.25
"""What the weight of the entropy is multiplied by from step to step."""

ROUNDS = 20
"""Of both updates at each weight: potentials of the next one start near their end."""


def source_potentials(cost: Float[Tensor, "u m"]) -> Float[Tensor, " u"]:
    """f of the dual max sum f / u + sum g / m with f + g <= cost, but for the entropy; each source has the mass 1 / u.

    A large value is that of a source whose mass is dear to move. float64; f is known up to a constant.
    """
    return potentials(cost)[0]


def potentials(cost: Float[Tensor, "u m"]) -> tuple[Float[Tensor, " u"], Float[Tensor, " m"]]:
    """f and g, of sources and targets.

    Raises ValueError for no source or target, or a cost that is not finite.

    Example:
        >>> f, g = potentials(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        >>> round(float(f.mean() + g.mean()), 2)
        0.0
    """
    if not cost.numel() or not cost.isfinite().all():
        raise ValueError("a cost is missing or not finite; check the model's outputs")
    cost = cost.double()
    (u, m), last = cost.shape, BLUR**2
    f, g = cost.new_zeros(u), cost.new_zeros(m)
    weight = max(last, float(cost.max()) ** 2)
    while True:
        for _ in range(ROUNDS):
            f = -weight * torch.logsumexp((g - cost) / weight - math.log(m), dim=1)
            g = -weight * torch.logsumexp((f[:, None] - cost) / weight - math.log(u), dim=0)
        if weight == last:
            return f, g
        weight = max(last, STEP * weight)
