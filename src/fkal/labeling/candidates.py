"""Which images of the open pool a selection may choose from: bursts, near-copies and images of no class.

A method sees the candidates alone. What is left out stays in the pool and is there again in the next round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.core.kernels import BLOCK_ENTRIES

BLOCK_ROWS = 1024
"""Rows that are compared with all kept ones at once."""


class Turn(NamedTuple):
    """A method picks `n` of these rows of the pool."""

    rows: Int[Tensor, " c"]
    n: int


def turns_by_group(
    rows: Int[Tensor, " u"],
    groups: Sequence[str | None],
    asked: Mapping[str, int],
    n: int,
    generator: torch.Generator,
) -> list[Turn]:
    """One image per group until the groups run out, then a second one of each, and so on.

    `groups` has the group of each row, None for an image by itself, `asked` how many images of a group were asked for
    before. Which image stands for its group is drawn. The rows of the last turn are images of groups that had equally
    many before; a turn in front of it takes all images of groups that had fewer.
    """
    seen: Counter[str] = Counter(asked)
    level = torch.zeros(len(rows), dtype=torch.long)
    for place in torch.randperm(len(rows), generator=generator).tolist():
        group = groups[place]
        if group is not None:
            level[place] = seen[group]
            seen[group] += 1
    up_to = level.bincount().cumsum(dim=0)  # images of each level or below
    last = int((up_to < n).sum())
    before = level < last
    due = int(before.sum())
    turns = [Turn(rows[before], due)] if due else []
    return [*turns, Turn(rows[level == last], n - due)]


class Representatives(NamedTuple):
    """Which rows stay, and for each row the one that stands for it: an index into the known rows if below 0."""

    stays: Bool[Tensor, " u"]
    by: Int[Tensor, " u"]


def representatives(features: Float[Tensor, "u l"], known: Float[Tensor, "k l"], least: float) -> Representatives:
    """Of images whose features have a cosine similarity of `least` or more, the first one stays.

    `known` are images that were asked for before; what is like one of them does not stay. Row i of them is written as
    i - k, so that all of them are below 0.
    """
    unit, kept = normalize(features, dim=1), normalize(known, dim=1)
    names = list(range(-len(known), 0))
    stays = torch.ones(len(unit), dtype=torch.bool)
    by = torch.arange(len(unit))
    for first in range(0, len(unit), BLOCK_ROWS):
        block = unit[first : first + BLOCK_ROWS]
        nearest, like = _nearest(block, kept)
        inside = (block @ block.T) >= least
        own: list[int] = []
        for place in range(len(block)):
            if len(kept) and float(nearest[place]) >= least:
                stays[first + place], by[first + place] = False, names[int(like[place])]
                continue
            before = next((other for other in own if bool(inside[place, other])), None)
            if before is None:
                own.append(place)
            else:
                stays[first + place], by[first + place] = False, first + before
        kept = torch.cat([kept, block[own]])
        names += [first + place for place in own]
    return Representatives(stays, by)


def strays(
    features: Float[Tensor, "u l"], none_of_these: Float[Tensor, "s l"], of_a_class: Float[Tensor, "k l"]
) -> Bool[Tensor, " u"]:
    """Rows whose nearest known image, by cosine similarity, is one of no class."""
    if not len(none_of_these):
        return torch.zeros(len(features), dtype=torch.bool)
    unit = normalize(features, dim=1)
    to_none, _ = _nearest(unit, normalize(none_of_these, dim=1))
    to_class, _ = _nearest(unit, normalize(of_a_class, dim=1))
    return (to_none > to_class).cpu()


SIMILARITIES = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9)
"""Values for `--dedup` that are tried, the safest first."""
PURITY = 0.99
"""So large a part of the pairs above a similarity must have one label."""
FEWEST_PAIRS = 20


def suggested_similarity(features: Float[Tensor, "k l"], y: Int[Tensor, " k"]) -> float | None:
    """The smallest tried similarity above which, as above all larger ones, pairs of labeled images share their label.

    None where the safest value has too few pairs, or pairs of different labels.
    """
    unit = normalize(features, dim=1)
    pairs = torch.triu(torch.ones(len(unit), len(unit), dtype=torch.bool), diagonal=1)
    likeness, same = (unit @ unit.T)[pairs], (y[:, None] == y)[pairs]
    best = None
    for least in SIMILARITIES:
        near = same[likeness >= least]
        if len(near) and float(near.double().mean()) < PURITY:
            break
        if len(near) >= FEWEST_PAIRS:
            best = least
    return best


def _nearest(rows: Float[Tensor, "n l"], kept: Float[Tensor, "k l"]) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """The largest similarity of each row to a kept one, and which that is; -inf where nothing is kept."""
    if not len(kept):
        return torch.full((len(rows),), -torch.inf), torch.zeros(len(rows), dtype=torch.long)
    parts = [(block @ kept.T).max(dim=1) for block in rows.split(max(1, BLOCK_ENTRIES // len(kept)))]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
