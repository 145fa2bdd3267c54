"""Targets share the budget as in TAROT: the best match of each, then the second best, and where not all of a rank fit,
those whose mass is dearest to move to the targets.

Feng, Nie, Liu, Alahi: TAROT: Targeted Data Selection via Optimal Transport, ICML 2025. Its gradients are whitened:
`pfk_...:transport:whiten`.
"""

from dataclasses import replace

import torch

from fkal.core.evidence import Features
from fkal.core.facility_location import subsample
from fkal.core.kernels import Kernel
from fkal.core.partitioned_matches import partitioned_matches
from fkal.core.picks import FIRST_WIDTH, Picks, distinct, refuse_beyond, refuse_empty
from fkal.core.pool_parts import WHOLE, Parts
from fkal.core.transport import source_potentials

MOST_TARGETS = 2000
"""Of more, a drawn part is matched: costs of a whole rank are held at once, 32 MB in float64."""


def by_transport(
    evidence: Features, p: int, generator: torch.Generator, kernel: Kernel, *, parts: Parts = WHOLE
) -> Picks:
    """Whole ranks of matches, one after the other, as long as they fit; of the next rank the largest potentials.

    The cost between an image and a target is the distance of unit vectors whose product is the kernel. Raises
    ValueError if p exceeds the pool, or the kernel returns NaN.
    """
    refuse_beyond(p, evidence.n)
    refuse_empty(len(evidence.targets))
    rows = subsample(len(evidence.targets), MOST_TARGETS, generator).to(evidence.pool.device)
    targets = evidence.targets[rows]
    found = _whole_ranks(replace(evidence, targets=targets), p, kernel, parts)
    assert found.ranks is not None and found.scores is not None and found.targets is not None
    order = torch.arange(len(found.ranks), device=found.ranks.device)
    if len(order) > p:
        is_last = found.ranks == found.ranks[-1]
        new = evidence.pool[found.positions[is_last]]
        # targets without a varying tap are shorter than 1, so the longest is the unit
        unit = kernel(targets, targets).diagonal().max()
        similarity = kernel(targets, new).T / torch.where(unit > 0, unit, 1)
        f = source_potentials((2 - 2 * similarity).clamp(min=0).sqrt())
        order = torch.cat([order[~is_last], order[is_last][f.argsort(descending=True, stable=True)]])[:p]
    return replace(
        found,
        positions=found.positions[order],
        ranks=found.ranks[order],
        scores=found.scores[order],
        targets=rows[found.targets[order]],
    )


def _whole_ranks(evidence: Features, p: int, kernel: Kernel, parts: Parts) -> Picks:
    """At least p distinct matches of the targets: all of the ranks that are needed for p, and no others."""
    targets, width = evidence.targets, FIRST_WIDTH
    while True:
        k = min(max(width, -(-p // len(targets))), evidence.n)
        matches = partitioned_matches(targets, evidence.pool, k, kernel=kernel, parts=parts)
        found = distinct(matches, k * len(targets))
        assert found.ranks is not None and found.scores is not None and found.targets is not None
        if len(found.ranks) >= p:
            needed = found.ranks <= found.ranks[p - 1]
            return Picks(found.positions[needed], found.ranks[needed], found.scores[needed], found.targets[needed])
        width = 2 * k
