"""Kernels between target images (rows) and pool images (columns): R_z (eq. 6), R_zg (eq. 12).

Each is a function of two `Descriptors` that returns an `(m n)` block. `top_matches` streams a
kernel over the pool and keeps each target's k best, so memory grows with m k + n l, never m n.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Blocks, Descriptors
from fkal.core.row_stream import PoolDescriptors

Kernel = Callable[[Descriptors, Descriptors], Tensor]

BLOCK_ENTRIES = 1 << 22
"""Kernel entries held at once while streaming: 16 MiB of float32, which stays near the caches."""


def r_z(targets: Descriptors, pool: Descriptors) -> Float[Tensor, "m n"]:
    """R_z = sum_j (Z_v^j)^T Z^j (eq. 6): similarity of features.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images with the same taps.

    Returns:
        One row per target, one column per pool image.

    Example:
        >>> alike = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 4.0]])}, {"fc1": torch.tensor([[1.0, -1.0]])})
        >>> round(r_z(alike, alike).item(), 4)
        1.0
    """
    return _sum_of_correlations(targets.z, pool.z)


def r_g(targets: Descriptors, pool: Descriptors) -> Float[Tensor, "m n"]:
    """R_g = sum_j (G_v^j)^T G^j, the gradient factor of eq. 12.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images with the same taps.

    Returns:
        One row per target, one column per pool image.

    Example:
        >>> alike = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 4.0]])}, {"fc1": torch.tensor([[1.0, -1.0]])})
        >>> round(r_g(alike, alike).item(), 4)
        1.0
    """
    return _sum_of_correlations(targets.g, pool.g)


def r_zg_product(targets: Descriptors, pool: Descriptors) -> Float[Tensor, "m n"]:
    """R_zg = sum_j R_z^j o R_g^j: eq. 12 read tap by tap.

    For one fully connected tap this is the exact Gram matrix of per-sample weight gradients
    (of the standardised factors), since <z g^T, z' g'^T> = <z, z'> <g, g'>.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images with the same taps.

    Returns:
        One row per target, one column per pool image.

    Example:
        >>> alike = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 4.0]])}, {"fc1": torch.tensor([[1.0, -1.0]])})
        >>> round(r_zg_product(alike, alike).item(), 4)
        1.0
    """
    by_tap = ((targets.z[tap] @ pool.z[tap].T).mul_(targets.g[tap] @ pool.g[tap].T) for tap in targets.z)
    return reduce(Tensor.add_, by_tap)


def r_zg_product_of_sums(targets: Descriptors, pool: Descriptors) -> Float[Tensor, "m n"]:
    """R_zg = R_z o R_g: eq. 12 as printed, each factor summed over taps first.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images with the same taps.

    Returns:
        One row per target, one column per pool image.

    Example:
        >>> alike = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 4.0]])}, {"fc1": torch.tensor([[1.0, -1.0]])})
        >>> round(r_zg_product_of_sums(alike, alike).item(), 4)
        1.0
    """
    return r_z(targets, pool) * r_g(targets, pool)


def r_zg_sum(targets: Descriptors, pool: Descriptors) -> Float[Tensor, "m n"]:
    """R_z + R_g: what the authors' program computes.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images with the same taps.

    Returns:
        One row per target, one column per pool image.

    Example:
        >>> alike = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 4.0]])}, {"fc1": torch.tensor([[1.0, -1.0]])})
        >>> round(r_zg_sum(alike, alike).item(), 4)
        2.0
    """
    return r_z(targets, pool) + r_g(targets, pool)


R_ZG: Mapping[str, Kernel] = MappingProxyType(
    {
        "product": r_zg_product,
        "product_of_sums": r_zg_product_of_sums,
        "sum": r_zg_sum,
    }
)
"""How R_z and R_g meet, by the name that `acquisition.combine` takes (decision 001)."""


class Matches(NamedTuple):
    """Each target's k best pool images, best first; equal scores go to the smaller position."""

    scores: Float[Tensor, "m k"]
    positions: Int[Tensor, "m k"]


def top_matches(
    targets: Descriptors,
    pool: PoolDescriptors,
    k: int,
    *,
    kernel: Kernel,
    block_entries: int = BLOCK_ENTRIES,
) -> Matches:
    """The k largest kernel values of each target over the whole pool, streamed in pool blocks.

    Equals a sort of the full matrix.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images, in memory or streamed.
        k: Matches per target.
        kernel: One of `R_ZG`, or `r_z`.
        block_entries: Kernel entries held at once.

    Returns:
        Scores and positions, best first.

    Raises:
        ValueError: k exceeds the pool, or the kernel returns NaN.

    Example:
        >>> pool = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])})
        >>> top_matches(pool[:1], pool, 2, kernel=r_z).positions.tolist()
        [[0, 2]]
    """
    if not 1 <= k <= len(pool):
        raise ValueError(f"k = {k} matches of a pool of {len(pool)}; ask for 1 to {len(pool)}")
    device = pool.device
    best = Matches(torch.empty(len(targets), 0, device=device), torch.empty(len(targets), 0, device=device).long())
    for first, block in pool.blocks(max(1, block_entries // len(targets))):
        scores = kernel(targets, block).float()
        largest = scores.amax(dim=1)
        if largest.isnan().any():
            raise ValueError("the kernel returned NaN; check the descriptors for infinite values")
        if best.scores.shape[1] < k:
            best = _merged(best, _top(scores, k, first), k)
            continue
        rows = (largest > best.scores[:, -1]).nonzero()[:, 0]
        if len(rows):
            better = _merged(Matches(*(column[rows] for column in best)), _top(scores[rows], k, first), k)
            best.scores[rows], best.positions[rows] = better
    return best


def merged_matches(parts: Sequence[Matches], k: int) -> Matches:
    """The k best of the whole pool, from each part's own best; what `top_matches` says of all of it.

    Args:
        parts: Matches of the same targets in disjoint parts of the pool, in any order. Positions count in the whole
            pool. A part has its k best matches, or all of them where it has fewer images.
        k: Matches per target.

    Returns:
        Scores and positions, best first; equal scores go to the smaller position, whichever part it is in.

    Raises:
        ValueError: The parts have fewer than k matches together.

    Example:
        >>> first = Matches(torch.tensor([[0.5, 0.25]]), torch.tensor([[0, 2]]))
        >>> second = Matches(torch.tensor([[0.75, 0.5]]), torch.tensor([[5, 4]]))
        >>> merged_matches([second, first], 3).positions.tolist()
        [[5, 0, 4]]
    """
    scores, positions = (torch.cat(columns, dim=1) for columns in zip(*parts, strict=True))
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k = {k} matches of parts that have {scores.shape[1]}; ask for 1 to {scores.shape[1]}")
    by_position = positions.argsort(dim=1)
    order = scores.gather(1, by_position).argsort(dim=1, descending=True, stable=True)[:, :k]
    chosen = by_position.gather(1, order)
    return Matches(scores.gather(1, chosen), positions.gather(1, chosen))


class Closest(NamedTuple):
    """Each query's largest kernel value, and the reference row that has it (the smallest where equal)."""

    scores: Float[Tensor, " q"]
    rows: Int[Tensor, " q"]


def closest(
    queries: Descriptors,
    references: Descriptors,
    *,
    kernel: Kernel,
    block_entries: int = BLOCK_ENTRIES,
) -> Closest:
    """The most similar reference of each query.

    `top_matches` with k = 1, without its sortable keys: torch's max over a dimension promises
    the first of equals.

    Args:
        queries: Descriptors of q images.
        references: Descriptors of the images to choose from.
        kernel: One of `R_ZG`, or `r_z`.
        block_entries: Kernel entries held at once.

    Returns:
        The score and the row of the winner, per query.

    Example:
        >>> known = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])})
        >>> closest(known[1:], known, kernel=r_z).rows.tolist()
        [1]
    """
    scores, rows = [], []
    size = max(1, block_entries // len(queries))
    for _, block in references.blocks(size):
        best = kernel(queries, block).max(dim=1)
        scores.append(best.values)
        rows.append(best.indices)
    top, winner = torch.stack(scores, dim=1).max(dim=1, keepdim=True)  # (q 1)
    return Closest(top[:, 0], (torch.stack(rows, dim=1).gather(1, winner) + size * winner)[:, 0])


def _sum_of_correlations(rows: Blocks, columns: Blocks) -> Tensor:
    return _side_by_side(list(rows.values())) @ _side_by_side([columns[tap] for tap in rows]).T


def _side_by_side(blocks: list[Tensor]) -> Tensor:
    """One tap alone is not copied: beside few rows of a pool, the copy of many targets would take longer than the
    product."""
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _top(scores: Float[Tensor, "m r"], k: int, first: int) -> Matches:
    """The k best of a block whose first column is the pool's position `first`.

    torch promises nothing for equal scores. A row that has some among its k best, or just behind them, is ranked by
    keys; all others cost no more than a plain top-k.
    """
    k = min(k, scores.shape[1])
    values, rows = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    values, rows = values[:, :k], rows[:, :k]
    if len(tied):
        values[tied], rows[tied] = _unpacked(_ranking_keys(scores[tied]).topk(k, dim=1).values)
    return Matches(values, rows + first)


def _merged(earlier: Matches, later: Matches, k: int) -> Matches:
    """The k best of both; all positions of the first are smaller, so a stable sort keeps the order of equals."""
    scores, order = torch.cat([earlier.scores, later.scores], dim=1).sort(dim=1, descending=True, stable=True)
    positions = torch.cat([earlier.positions, later.positions], dim=1).gather(1, order[:, :k])
    return Matches(scores[:, :k].contiguous(), positions)


_LOW = 0xFFFFFFFF


def _ranking_keys(scores: Float[Tensor, "m r"]) -> Int[Tensor, "m r"]:
    """One int64 per entry whose order is (score, then smaller column first).

    The float32 pattern becomes an int32 of the same order (negative numbers have their
    magnitude bits flipped) in the high half; the low half counts columns down. Keys are
    distinct, so top-k has one answer on every device.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0 makes -0.0 and 0.0 one value
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    countdown = _LOW - torch.arange(scores.shape[1], device=scores.device)
    return (ordered << 32) | countdown


def _unpacked(keys: Int[Tensor, "m k"]) -> Matches:
    ordered = (keys >> 32).int()
    bits = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    return Matches(bits.view(torch.float32), _LOW - (keys & _LOW))
