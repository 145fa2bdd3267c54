"""Facility location in parts of a pool: each part picks for itself, then the picks of all are picked from.

Each part's greedy sees all targets, which are few, and its own candidates alone; the second stage sees at most p
candidates of each part (GreeDi: Mirzasoleiman et al., Distributed Submodular Maximization, NIPS 2013).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.facility_location import EPSILON, Similarity, facility_location, rows_at_once
from fkal.core.picks import Picks, refuse_beyond
from fkal.core.pool_parts import WHOLE, Parts, PoolPart, PoolRows, parts_of
from fkal.core.randomness import stream

RowSimilarity = Callable[[Any], Tensor]
"""Rows that were looked up in the pool to their similarities with all targets (r m), which may be overwritten."""

RowBonus = Callable[[Any], Tensor]
"""A pool, or a part of one, to what each of its rows is worth on its own (n)."""


def objective(
    similarity: Similarity,
    positions: Int[Tensor, " p"],
    *,
    weights: Float[Tensor, " m"],
    covered: Float[Tensor, " m"],
    bonus: Float[Tensor, " n"] | None = None,
) -> float:
    """sum_t weights_t max(covered_t, max_a s(a, t)) + sum_a bonus_a of these picks a."""
    for part in positions.split(rows_at_once(len(covered))):
        covered = torch.maximum(covered, similarity(part).amax(dim=0))
    total = covered.double() @ weights.double()
    return float(total if bonus is None else total + bonus[positions].double().sum())


def partitioned_cover(
    pool: PoolRows,
    p: int,
    *,
    similarity: RowSimilarity,
    weights: Float[Tensor, " m"],
    covered: Float[Tensor, " m"],
    generator: torch.Generator,
    parts: Parts = WHOLE,
    bonus: RowBonus | None = None,
    epsilon: float = EPSILON,
    keep: bool = False,
) -> Picks:
    """p rows in two stages of `facility_location`: p of each part, then p of the union of these.

    One part is one stage. Each of several parts has draws of its own, so it does not matter which one is done first.

    Args:
        pool: The candidates, in memory or streamed.
        p: How many to pick, of each part and in the end.
        similarity: The rows s(a, .) of some candidates. With workers in other processes it has to be pickled, as
            `bonus` has to be.
        weights: What each target counts.
        covered: How well each target is covered already.
        generator: Source of the draws.
        parts: How many parts there are, and who works on them.
        bonus: What candidates are worth on their own.
        epsilon: As `facility_location` takes it.
        keep: As `facility_location` takes it, for each part.

    Returns:
        Positions in the pool, and their gains when picked. If one part alone reached more than the union, its picks.

    Raises:
        ValueError: p exceeds the pool, or a similarity is NaN.

    Example:
        >>> pool, targets = torch.eye(4), torch.eye(4)[:2]
        >>> picks = partitioned_cover(
        ...     pool, 2, similarity=lambda rows: rows @ targets.T, weights=torch.ones(2), covered=torch.zeros(2),
        ...     generator=torch.Generator().manual_seed(0), parts=Parts(2),
        ... )
        >>> sorted(picks.positions.tolist())
        [0, 1]
    """
    refuse_beyond(p, len(pool))
    cover = _Cover(p, similarity, weights, covered, epsilon, keep)
    pieces = parts_of(pool, parts.count)
    if len(pieces) == 1:
        return cover.picks(pool, None if bonus is None else bonus(pool), generator)
    seed = int(torch.randint(1 << 62, (), generator=generator))
    found: list[_Found] = parts.over(_OfPart(cover, bonus, seed), pieces)
    union = torch.cat([each.picks.positions for each in found])
    worth = torch.cat([each.bonus for each in found if each.bonus is not None]) if bonus is not None else None
    candidates = _At(pool, union)
    second = cover.picks(candidates, worth, stream(seed, "union"))
    reached = cover.reached(candidates, second.positions, worth)
    best = max((each for each in found if len(each.picks.positions) == p), key=lambda each: each.reached, default=None)
    if best is not None and best.reached > reached:
        return best.picks
    return Picks(union[second.positions], scores=second.scores)


class _Found(NamedTuple):
    """Picks of a part by their positions in the pool, what each is worth on its own, and what they reach together."""

    picks: Picks
    bonus: Tensor | None
    reached: float


@dataclass(frozen=True)
class _At:
    """Rows of the pool at some positions, which are looked up when they are asked for."""

    pool: PoolRows
    positions: Int[Tensor, " u"]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Int[Tensor, " r"]) -> Any:
        return self.pool[self.positions[rows]]


@dataclass(frozen=True)
class _Cover:
    """One stage, and what it is about."""

    p: int
    similarity: RowSimilarity
    weights: Float[Tensor, " m"]
    covered: Float[Tensor, " m"]
    epsilon: float
    keep: bool

    def picks(self, rows: PoolRows | _At, bonus: Tensor | None, generator: torch.Generator) -> Picks:
        return facility_location(
            lambda some: self.similarity(rows[some]),
            len(rows),
            min(self.p, len(rows)),
            weights=self.weights,
            covered=self.covered,
            generator=generator,
            bonus=bonus,
            epsilon=self.epsilon,
            keep=self.keep,
        )

    def reached(self, rows: PoolRows | _At, positions: Tensor, bonus: Tensor | None) -> float:
        return objective(
            lambda some: self.similarity(rows[some]),
            positions,
            weights=self.weights,
            covered=self.covered,
            bonus=bonus,
        )


@dataclass(frozen=True)
class _OfPart:
    """The first stage of one part."""

    cover: _Cover
    bonus: RowBonus | None
    seed: int

    def __call__(self, part: PoolPart) -> _Found:
        if not part.is_streamed:
            part = part.in_memory()  # on some processors the last digit of a product depends on where rows begin
        bonus = None if self.bonus is None else self.bonus(part.rows)
        picks = self.cover.picks(part.rows, bonus, stream(self.seed, "part", part.number))
        reached = self.cover.reached(part.rows, picks.positions, bonus)
        worth = None if bonus is None else bonus[picks.positions]
        return _Found(Picks(picks.positions + part.first, scores=picks.scores), worth, reached)
