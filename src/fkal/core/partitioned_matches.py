"""Best matches by partial lists: each part of a pool has its own, and the lists are merged."""

from dataclasses import dataclass

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import BLOCK_ENTRIES, Kernel, Matches, merged_matches, top_matches
from fkal.core.pool_parts import WHOLE, Parts, PoolPart, parts_of
from fkal.core.row_stream import ROWS_AT_ONCE, PoolDescriptors, StreamedDescriptors


def partitioned_matches(
    targets: Descriptors,
    pool: PoolDescriptors,
    k: int,
    *,
    kernel: Kernel,
    parts: Parts = WHOLE,
    block_entries: int = BLOCK_ENTRIES,
) -> Matches:
    """What `top_matches` gives of the whole pool, to the bit, from lists of its parts.

    A product of few rows can round otherwise than one of many. So a part consists of whole blocks of those that
    `top_matches` would work through, and a pool of fewer blocks has fewer parts.

    Args:
        targets: Descriptors of m images.
        pool: Descriptors of n images, in memory or streamed.
        k: Matches per target.
        kernel: One of `R_ZG`, or `r_z`.
        parts: How many parts there are at most, and who works on them.
        block_entries: Kernel entries held at once.

    Returns:
        Scores and positions, best first; equal scores go to the smaller position.

    Raises:
        ValueError: k exceeds the pool, or the kernel returns NaN.

    Example:
        >>> import torch
        >>> from fkal.core.kernels import r_z
        >>> pool = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])})
        >>> partitioned_matches(pool[:1], pool, 2, kernel=r_z, parts=Parts(3), block_entries=1).positions.tolist()
        [[0, 2]]
    """
    size = max(1, block_entries // len(targets))
    if isinstance(pool, StreamedDescriptors):
        size = min(size, ROWS_AT_ONCE)
    pieces = parts_of(pool, parts.count, step=size)
    if len(pieces) <= 1 or not 1 <= k <= len(pool):
        return top_matches(targets, pool, k, kernel=kernel, block_entries=block_entries)
    return merged_matches(parts.over(_TopMatches(targets, k, kernel, size), pieces), k)


@dataclass(frozen=True)
class _TopMatches:
    """The list of a part, with positions in the whole pool."""

    targets: Descriptors
    k: int
    kernel: Kernel
    block_rows: int

    def __call__(self, part: PoolPart) -> Matches:
        assert isinstance(part.rows, PoolDescriptors)
        found = top_matches(
            self.targets,
            part.rows,
            min(self.k, len(part)),
            kernel=self.kernel,
            block_entries=self.block_rows * len(self.targets),
        )
        return found._replace(positions=found.positions + part.first)
