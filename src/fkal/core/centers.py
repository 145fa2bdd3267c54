"""Greedy k-center: by similarity among targets (Algorithm 1, line 5), by distance over a pool (core-set)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import BLOCK_ENTRIES, Kernel
from fkal.core.picks import TOO_LARGE, is_finite
from fkal.core.row_stream import Rows, RowStream, joined


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
    pool: Float[Tensor, "n l"] | RowStream,
    labeled: Float[Tensor, "m l"],
    p: int,
    *,
    generator: torch.Generator,
    block_entries: int = BLOCK_ENTRIES,
) -> tuple[Int[Tensor, " p"], Float[Tensor, " p"]]:
    """p pool positions, each the farthest (Euclidean) from all that is labeled or chosen by then, and how far.

    With nothing labeled the first is drawn at random, at distance infinity. O((m + p) n l) time, in
    blocks of the pool; of equals the smaller position is taken. A stream is read p + 2 times, or p + 3 beside labeled
    images. Raises ValueError if p exceeds the pool, or a feature or its square is not finite.
    """
    if not 1 <= p <= len(pool):
        raise ValueError(f"{p} picks of a pool of {len(pool)}; ask for 1 to {len(pool)}")
    if not (is_finite(pool) and is_finite(labeled)):
        raise ValueError("a feature is NaN or infinite; check the model's outputs")
    middle = _middle(pool)
    points, known = _Points.of(_without(middle, pool)), _Points.of(labeled - middle)
    if not (is_finite(points.squared) and is_finite(known.squared)):
        raise ValueError(TOO_LARGE)
    gap = torch.full((len(pool),), torch.inf, dtype=pool.dtype, device=pool.device)  # squared
    if len(known):
        size = max(1, block_entries // len(known))
        gap = joined((_to_nearest(points[rows], known) for rows in _slices(len(points), size)), len(points))
    positions = torch.empty(p, dtype=torch.long, device=pool.device)
    distances = torch.empty(p, dtype=pool.dtype, device=pool.device)
    for i in range(p):
        at_random = i == 0 and len(known) == 0
        farthest = torch.randint(len(pool), (), generator=generator) if at_random else gap.argmax()
        positions[i], distances[i] = farthest, gap[farthest].sqrt()
        gap = _brought_near(gap, points, farthest)
        gap[farthest] = -1  # below every distance: never again
    return positions, distances


ROWS_AT_ONCE = 1 << 12
"""Rows squared at once."""

STREAMED_ROWS = 1 << 9
"""Rows of a stream that are brought near at once: few enough to stay in a core's cache from the file to the product."""

MIDDLE_ROWS = 1 << 10
"""Rows, evenly spaced, whose median is the middle of the pool."""

TRUSTED = 1e-3
"""A squared distance above this part of both squared norms is right to about 1e-3 when it comes from their product."""


@dataclass(frozen=True)
class _Points:
    """Rows and their squared norms, made once."""

    rows: Float[Tensor, "n l"] | RowStream
    squared: Float[Tensor, " n"]

    @staticmethod
    def of(rows: Float[Tensor, "n l"] | RowStream) -> "_Points":
        return _Points(rows, joined((part.square().sum(dim=1) for part in rows.split(ROWS_AT_ONCE)), len(rows)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: slice) -> "_Points":
        return _Points(self.rows[which], self.squared[which])


def _middle(pool: Rows) -> Float[Tensor, " l"]:
    """The median of some rows, feature by feature. A common offset would take the digits of the products below; the
    median takes it away, and one image far from all others does not move it."""
    return pool[:: -(-len(pool) // MIDDLE_ROWS)].median(dim=0).values


def _without(middle: Float[Tensor, " l"], rows: Rows) -> Rows:
    return rows.mapped(lambda block: block.sub_(middle)) if isinstance(rows, RowStream) else rows - middle


def _slices(n: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, n, size)]


def _to_nearest(points: _Points, known: _Points) -> Float[Tensor, " n"]:
    """Squared distance of each point to the nearest known one; where the product has lost it, by differences."""
    assert isinstance(points.rows, Tensor) and isinstance(known.rows, Tensor)
    squared = torch.addmm(known.squared, points.rows, known.rows.T, alpha=-2).add_(points.squared[:, None])
    least, nearest = squared.min(dim=1)
    lost = (least <= TRUSTED * (points.squared + known.squared[nearest])).nonzero()[:, 0]
    exact = torch.cdist(points.rows[lost], known.rows, compute_mode="donot_use_mm_for_euclid_dist")
    least[lost] = exact.amin(dim=1).square() if len(lost) else least[lost]
    return least


def _brought_near(gap: Float[Tensor, " n"], points: _Points, chosen: Int[Tensor, ""]) -> Float[Tensor, " n"]:
    """The gaps after one more point is chosen, by one matrix-vector product; where it has lost them, by differences."""
    row, own = points.rows[chosen[None]][0], points.squared[chosen]
    if isinstance(points.rows, Tensor):
        return _nearer(gap, points, row, own)
    blocks = _slices(len(points), STREAMED_ROWS)
    return joined((_nearer(gap[part], points[part], row, own) for part in blocks), len(points))


def _nearer(
    gap: Float[Tensor, " n"], points: _Points, row: Float[Tensor, " l"], own: Float[Tensor, ""]
) -> Float[Tensor, " n"]:
    """Squared distances to the new point where they are less than the gaps."""
    assert isinstance(points.rows, Tensor)
    squared = torch.addmv(points.squared, points.rows, row, alpha=-2).add_(own)
    lost = ((squared < gap) & (squared <= TRUSTED * (points.squared + own))).nonzero()[:, 0]
    squared[lost] = (points.rows[lost] - row).square().sum(dim=1)
    return torch.minimum(gap, squared)
