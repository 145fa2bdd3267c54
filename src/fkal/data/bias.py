"""A pool bent away from the balance of the test set: pure functions of labels, settings and a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor

import torch
from jaxtyping import Int64
from torch import Tensor

from fkal.data.settings import BiasConfig


def cut_classes(n_classes: int, rule: str, generator: torch.Generator) -> tuple[int, ...]:
    """The half of the classes (the smaller one, if odd) that an imbalance cuts."""
    if rule not in CUT_RULES:
        raise ValueError(f"cut rule {rule!r}: not known; choose one of {', '.join(CUT_RULES)}")
    return CUT_RULES[rule](n_classes, generator)


def rare_classes(
    bias: BiasConfig, cut: Sequence[int], pool: Sequence[int], validation: Sequence[int]
) -> tuple[int, ...]:
    """The under-represented classes, given the images per class in pool and validation.

    A bias of `imbalance` names those that it cuts, also at a ratio of 1, so that runs compare. A pool that is left as
    it is has those whose share of the pool is below half of their share of validation.
    """
    return RARE[bias.kind](bias, cut, pool, validation)


def keep_counts(counts: Int64[Tensor, " d"], bias: BiasConfig, cut: Sequence[int]) -> Int64[Tensor, " d"]:
    """How many images of each class stay."""
    _refuse_unknown_classes("cut", cut, len(counts))
    _refuse_unknown_classes("fractions", list(bias.fractions or {}), len(counts))
    kept = KEPT[bias.kind](counts.tolist(), bias, cut)
    return torch.tensor(kept, dtype=torch.int64)


def biased_pool(
    labels: Int64[Tensor, " n"],
    bias: BiasConfig,
    cut: Sequence[int],
    generator: torch.Generator,
    *,
    n_classes: int | None = None,
    per_class: int | None = None,
) -> Int64[Tensor, " m"]:
    """Sorted positions of the images that stay.

    `n_classes` is for labels that lack the last classes; by default they are those that occur or are named. Of each
    class at most `per_class` images are there before the bias.
    One random order serves every setting, so of one seed a pool of a higher ratio is within that of a lower.
    """
    if n_classes is None:
        n_classes = max([int(labels.max()) if len(labels) else -1, *cut, *(bias.fractions or {})]) + 1
    counts = labels.bincount(minlength=n_classes)
    kept = keep_counts(counts if per_class is None else counts.clamp(max=per_class), bias, cut)
    order = torch.randperm(len(labels), generator=generator)
    return order[rank_in_class(labels[order]) < kept[labels[order]]].sort().values


def rank_in_class(labels: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """How many earlier entries have the same label."""
    by_class = labels.argsort(stable=True)
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    ranks = torch.empty_like(labels)
    ranks[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return ranks


def largest_remainder(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole shares proportional to the weights, 1 at least where it suffices; ties to the lower class."""
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda c: (-(total * weights[c] % whole), c))
    for c in by_remainder[: total - sum(shares)]:
        shares[c] += 1
    return _one_at_least(shares, weights)


def _one_at_least(shares: list[int], weights: Sequence[int]) -> list[int]:
    empty = [c for c, share in enumerate(shares) if share == 0 and weights[c] > 0]
    for c in empty:
        richest = max(range(len(shares)), key=lambda k: shares[k])
        if shares[richest] > 1:
            shares[richest] -= 1
            shares[c] = 1
    return shares


def _imbalanced(counts: list[int], bias: BiasConfig, cut: Sequence[int]) -> list[int]:
    """(images of kept classes) : (images of cut classes) = ratio : 1 (protocol, section 1)."""
    if bias.ratio == 1:
        return counts
    kept_half = sum(count for c, count in enumerate(counts) if c not in cut)
    weights = [counts[c] for c in cut]
    target = min(floor(kept_half / _exact(bias.ratio)), sum(weights))
    kept = list(counts)
    for c, share in zip(cut, largest_remainder(target, weights), strict=True):
        kept[c] = share
    return kept


def _long_tailed(counts: list[int], bias: BiasConfig, cut: Sequence[int]) -> list[int]:
    """Class c keeps counts * ratio^(-c/(D-1))."""
    last = max(1, len(counts) - 1)
    return [min(count, max(1, int(count / bias.ratio ** (c / last)))) for c, count in enumerate(counts)]


def _by_hand(counts: list[int], bias: BiasConfig, cut: Sequence[int]) -> list[int]:
    """Class c keeps its fraction, rounded down but to 1 at least unless the fraction is 0; unnamed classes all."""
    kept = list(counts)
    for c, fraction in (bias.fractions or {}).items():
        kept[c] = min(counts[c], max(fraction > 0, floor(counts[c] * _exact(fraction))))
    return kept


def _whole(counts: list[int], bias: BiasConfig, cut: Sequence[int]) -> list[int]:
    return counts


def _exact(number: float) -> Fraction:
    """The decimal that the user wrote: 0.29 of 100 is 29, not 28."""
    return Fraction(str(number))


def _second_half(n_classes: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(range(n_classes - n_classes // 2, n_classes))


def _random_half(n_classes: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(sorted(torch.randperm(n_classes, generator=generator)[: n_classes // 2].tolist()))


def _cut_given(bias: BiasConfig, cut: Sequence[int], pool: Sequence[int], validation: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(cut))


def _tail_half(bias: BiasConfig, cut: Sequence[int], pool: Sequence[int], validation: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(len(pool) - len(pool) // 2, len(pool)))


def _thinned(bias: BiasConfig, cut: Sequence[int], pool: Sequence[int], validation: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(c for c, fraction in (bias.fractions or {}).items() if fraction < 1))


def _scarce(bias: BiasConfig, cut: Sequence[int], pool: Sequence[int], validation: Sequence[int]) -> tuple[int, ...]:
    """In whole numbers: 2 n_c / n < m_c / m."""
    return tuple(
        c
        for c, (here, wanted) in enumerate(zip(pool, validation, strict=True))
        if 2 * here * sum(validation) < wanted * sum(pool)
    )


def _refuse_unknown_classes(field: str, named: Sequence[int], n_classes: int) -> None:
    unknown = sorted({c for c in named if not 0 <= c < n_classes})
    if unknown:
        raise ValueError(f"{field}: classes {unknown}: the dataset has {n_classes}; name classes 0 to {n_classes - 1}")


CUT_RULES: dict[str, Callable[[int, torch.Generator], tuple[int, ...]]] = {
    "second_half": _second_half,
    "random_half": _random_half,
}
KEPT: dict[str, Callable[[list[int], BiasConfig, Sequence[int]], list[int]]] = {
    "imbalance": _imbalanced,
    "long_tail": _long_tailed,
    "by_hand": _by_hand,
    "none": _whole,
}
RARE: dict[str, Callable[[BiasConfig, Sequence[int], Sequence[int], Sequence[int]], tuple[int, ...]]] = {
    "imbalance": _cut_given,
    "long_tail": _tail_half,
    "by_hand": _thinned,
    "none": _scarce,
}
