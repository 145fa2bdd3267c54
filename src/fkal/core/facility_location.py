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

from fkal.core.picks import Picks, refuse_beyond
from fkal.core.row_stream import joined

Similarity = Callable[[Tensor], Tensor]
"""Candidates (r,) to their similarities with all targets (r m), a tensor that may be overwritten."""

EPSILON = 1e-12
"""The choice is expected to be within 1 - 1/e - epsilon of the best one. At 0.1 it kept 0.925 to 0.985 of what greedy
over all candidates reaches; at this, above 0.99, and old bounds leave most gains unasked (decision 010)."""

CANDIDATE_BATCH = 32
"""Candidates whose gain is computed again at once."""

CACHED_ENTRIES = 1 << 18
"""Similarities worked out at once: 1 MiB of float32, which stay in a core's cache from the product to the sum."""

FEWEST_ROWS = 64
"""Candidates whose similarities are worked out at once, however many targets there are. With fewer rows a product waits
for memory: at 65,000 targets and 4 rows it takes eight times as long."""

KEPT_ENTRIES = 1 << 25
"""Similarities that may be kept, 128 MiB of float32. Where all fit, a candidate is worked out once."""

FEWEST_TARGETS = 3000
TARGETS_PER_PICK = 8
"""With so many drawn targets, picks keep above 0.99 of what they cover when they are picked for all (decision 010)."""

PAIRS_WORK = 1 << 39
"""Multiplications for one look at all pairs of a pool that covers itself; half a minute on one core."""

BESIDE_PRODUCT = 128
"""What a similarity costs beside its inner product, in multiplications (measured)."""


def max_targets(p: int) -> int:
    """How many targets p picks are chosen for; of more, a drawn part keeps the objective."""
    return max(FEWEST_TARGETS, TARGETS_PER_PICK * p)


def max_pool(p: int, width: int) -> int:
    """How many images with so many features can cover each other within `PAIRS_WORK`, at least the p picks."""
    return max(p, int((PAIRS_WORK / (width + BESIDE_PRODUCT)) ** 0.5))


def rows_at_once(m: int) -> int:
    """How many candidates are compared at once with m targets."""
    return max(FEWEST_ROWS, CACHED_ENTRIES // max(1, m))


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
    keep: bool = False,
) -> Picks:
    """p of n candidates that greedily maximise sum_t weights_t max(covered_t, max_a s(a, t)) + sum_a bonus_a.

    Each is the best of n/p log(1/epsilon) drawn ones. At most n log(1/epsilon) gains are worked out, far fewer where
    old gains bound them; memory grows with n + m, beside what `keep` keeps.

    Args:
        similarity: The rows s(a, .) of some candidates.
        n: Number of candidates.
        p: How many to pick.
        weights: What each target counts.
        covered: How well each target is covered already.
        generator: Source of the draws.
        bonus: What each candidate is worth on its own.
        epsilon: How far the expected value may stay below that of a full search.
        keep: Whether similarities are kept where they are few; it pays where one takes several products.

    Returns:
        Positions; the score is the gain when picked, and of equals a random one is taken.

    Raises:
        ValueError: p exceeds n, or a similarity is NaN.
    """
    refuse_beyond(p, n)
    device = covered.device

    block = rows_at_once(len(covered))
    looked_up = _kept(similarity, n) if keep and n * len(covered) <= KEPT_ENTRIES else similarity

    def gains_of(rows: Tensor) -> Tensor:
        parts = (looked_up(part).sub_(covered).clamp_(min=0) @ weights for part in rows.split(block))
        gains = joined(parts, len(rows))
        if gains.isnan().any():
            raise ValueError("a similarity is NaN; check the model's outputs for infinite values")
        return gains if bonus is None else gains + bonus[rows]

    bounds = torch.full((n,), torch.inf, dtype=weights.dtype, device=device)
    draws = _Draws(n, math.ceil(n / p * math.log(1 / epsilon)), generator)
    positions, scores = [], []
    for _ in range(p):
        best = _best(bounds, draws.rows().to(device), gains_of)
        positions.append(best)
        scores.append(bounds[best].clone())
        draws.remove(int(best))
        covered = torch.maximum(covered, similarity(best[None])[0])
    return Picks(torch.stack(positions), scores=torch.stack(scores))


def _kept(similarity: Similarity, n: int) -> Similarity:
    """The same rows; those of candidates that were asked for together are kept, and copied when asked for again."""
    table: list[Tensor] = []
    known = torch.zeros(n, dtype=torch.bool)

    def rows_of(rows: Tensor) -> Tensor:
        at = rows.cpu()
        if known[at].all():
            return table[0][rows]
        found = similarity(rows)
        if not table:
            table.append(found.new_empty(n, found.shape[1]))
        table[0][rows], known[at] = found, True
        return found

    return rows_of


class _Draws:
    """Candidates that are still open, of which some are drawn for each pick; its work does not grow with n."""

    def __init__(self, n: int, size: int, generator: torch.Generator) -> None:
        self._size = size
        self._generator = generator
        self._open, self._place = torch.arange(n), torch.arange(n)
        self._count = n

    def rows(self) -> Int[Tensor, " r"]:
        """In a drawn order: all where there are no more than are drawn, else as many draws, each row once."""
        if self._count <= self._size:
            return self._open[: self._count][torch.randperm(self._count, generator=self._generator)]
        drawn = torch.randint(self._count, (self._size,), generator=self._generator).unique()
        return self._open[drawn[torch.randperm(len(drawn), generator=self._generator)]]

    def remove(self, row: int) -> None:
        """The last open row takes its place."""
        place, last = int(self._place[row]), self._open[self._count - 1].clone()
        self._open[place], self._place[last] = last, place
        self._count -= 1


def _best(
    bounds: Float[Tensor, " n"], rows: Int[Tensor, " r"], gains_of: Callable[[Tensor], Tensor]
) -> Int[Tensor, ""]:
    """The row of the largest gain; what is worked out on the way is written into the bounds."""
    unknown = bounds[rows].isinf()
    fresh, stale = rows[unknown], rows[~unknown]
    best = None
    if len(fresh):
        bounds[fresh] = gains_of(fresh)
        best = fresh[bounds[fresh].argmax()]
    stale = stale[bounds[stale].argsort(descending=True, stable=True)]
    for part in stale.split(CANDIDATE_BATCH):
        if not len(part) or (best is not None and bounds[best] >= bounds[part[0]]):
            break
        bounds[part] = gains_of(part)
        leader = part[bounds[part].argmax()]
        best = leader if best is None or bounds[leader] > bounds[best] else best
    assert best is not None
    return best
