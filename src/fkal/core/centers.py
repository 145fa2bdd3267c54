"""Greedy k-center: p targets that differ from one another (Algorithm 1, line 5)."""

import torch
from jaxtyping import Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import Kernel


def k_center(targets: Descriptors, p: int, *, kernel: Kernel, generator: torch.Generator) -> Int[Tensor, " p"]:
    """Rows of p targets, each the one least similar to those before; the first drawn at random.

    O(p m l) time, O(m) memory beside the descriptors; of equals the smaller row is taken.
    Raises ValueError if p exceeds the number of targets.
    """
    if not 1 <= p <= len(targets):
        raise ValueError(f"{p} centers of {len(targets)} targets; ask for 1 to {len(targets)}")
    device = next(iter(targets.z.values())).device
    rows = torch.empty(p, dtype=torch.long, device=device)
    rows[0] = torch.randint(len(targets), (), generator=generator)
    closest = torch.full((len(targets),), -torch.inf, device=device)
    for i in range(1, p):
        chosen = rows[i - 1 : i]
        closest = torch.maximum(closest, kernel(targets[chosen], targets)[0])
        closest[chosen] = torch.inf
        rows[i] = closest.argmin()
    return rows
