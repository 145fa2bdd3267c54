"""Greedy k-center: by similarity among targets (Algorithm 1, line 5), by distance over a pool (core-set)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import BLOCK_ENTRIES, Kernel


def k_center(targets: Descriptors, p: int, *, kernel: Kernel, generator: torch.Generator) -> Int[Tensor, " p"]:
    """Rows of p targets, each the one least similar to those before; the first drawn at random.

    O(p m l) time, O(m) memory beside the descriptors; of equals the smaller row is taken.

    Args:
        targets: Descriptors of m targets.
        p: How many centers.
        kernel: Similarity of two targets.
        generator: Source of the first center.

    Returns:
        Rows of the targets.

    Raises:
        ValueError: p exceeds the number of targets.
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


def farthest_first(
    pool: Float[Tensor, "n l"],
    labeled: Float[Tensor, "m l"],
    p: int,
    *,
    generator: torch.Generator,
    block_entries: int = BLOCK_ENTRIES,
) -> tuple[Int[Tensor, " p"], Float[Tensor, " p"]]:
    """p pool positions, each the farthest (Euclidean) from all that is labeled or chosen by then, and how far.

    With nothing labeled the first is drawn at random, at distance infinity. O((m + p) n l) time, in
    blocks of the pool; of equals the smaller position is taken. Raises ValueError if p exceeds the
    pool or a feature is not finite.
    """
    if not 1 <= p <= len(pool):
        raise ValueError(f"{p} picks of a pool of {len(pool)}; ask for 1 to {len(pool)}")
    if not (pool.isfinite().all() and labeled.isfinite().all()):
        raise ValueError("a feature is NaN or infinite; check the model's outputs")
    pool, labeled = pool - pool[0], labeled - pool[0]  # cdist squares and subtracts: no common offset survives that
    gap = torch.full((len(pool),), torch.inf, dtype=pool.dtype, device=pool.device)
    if len(labeled):
        size = max(1, block_entries // len(labeled))
        gap = torch.cat([torch.cdist(rows, labeled).amin(dim=1) for rows in pool.split(size)])
    positions = torch.empty(p, dtype=torch.long, device=pool.device)
    distances = torch.empty(p, dtype=pool.dtype, device=pool.device)
    for i in range(p):
        at_random = i == 0 and len(labeled) == 0
        farthest = torch.randint(len(pool), (), generator=generator) if at_random else gap.argmax()
        positions[i], distances[i] = farthest, gap[farthest]
        gap = torch.minimum(gap, torch.linalg.vector_norm(pool - pool[farthest], dim=1))
        gap[farthest] = -1  # below every distance: never again
    return positions, distances
