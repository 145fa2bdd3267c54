"""PCC and PFK: pool images that match misclassified validation images (Algorithm 1).

Gudovskiy, Hodgkinson, Yamaguchi, Tsukizawa: Deep Active Learning for Biased Datasets via Fisher
Kernel Self-Supervision, CVPR 2020.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.acquisition.transport import by_transport
from fkal.core.centers import k_center
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Features, FisherScores
from fkal.core.facility_location import max_targets, subsample
from fkal.core.kernels import BLOCK_ENTRIES, R_ZG, Kernel, r_z
from fkal.core.partitioned_cover import partitioned_cover
from fkal.core.picks import Picks, best_distinct, refuse_empty
from fkal.core.pool_parts import WHOLE, Parts
from fkal.core.row_stream import joined


def select_pcc(evidence: Features, p: int, generator: torch.Generator, *, parts: Parts = WHOLE) -> Picks:
    """Largest Pearson similarity of features, R_z (eq. 6).

    Args:
        evidence: Features of the open pool and of the targets.
        p: How many images to pick.
        generator: Source of every random choice.
        parts: In how many parts the pool is looked at, and by whom. The picks are the same.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or the kernel returns NaN.

    Example:
        >>> rows = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 2.0, 4.0]])
        >>> pool = Descriptors.of({"fc1": rows})
        >>> select_pcc(Features(pool, pool[1:2]), 1, torch.Generator()).positions.tolist()
        [1]
    """
    return by_centers(evidence, p, generator, r_z, parts=parts)


def select_pfk(
    evidence: FisherScores,
    p: int,
    generator: torch.Generator,
    *,
    combine: str,
    matching: str = "k_center",
    parts: Parts = WHOLE,
) -> Picks:
    """Largest Fisher kernel, R_zg (eq. 12).

    Args:
        evidence: Features and gradients of the open pool and of the targets.
        p: How many images to pick.
        generator: Source of every random choice.
        combine: How R_z and R_g meet: a name of `fkal.core.kernels.R_ZG`.
        matching: How the targets share the budget: a name of `MATCHINGS`.
        parts: In how many parts the pool is looked at, and by whom. It changes the picks of `coverage` alone.

    Returns:
        p distinct positions in the open pool, with the target that each was matched with.

    Raises:
        ValueError: p exceeds the pool, or the kernel returns NaN.

    Example:
        >>> z, g = torch.rand(20, 8), torch.rand(20, 8)
        >>> pool = Descriptors.of({"fc1": z}, {"fc1": g})
        >>> evidence = FisherScores(pool, pool[3:4], torch.zeros(20, dtype=torch.long))
        >>> select_pfk(evidence, 1, torch.Generator(), combine="product").positions.tolist()
        [3]
    """
    return MATCHINGS[matching](evidence, p, generator, R_ZG[combine], parts=parts)


def by_centers(
    evidence: Features, p: int, generator: torch.Generator, kernel: Kernel, *, parts: Parts = WHOLE
) -> Picks:
    """Greedy k-center on the targets where there are more than p, then distinct best matches."""
    targets = evidence.targets
    refuse_empty(len(targets))
    if len(targets) <= p:
        return best_distinct(targets, evidence.pool, p, kernel=kernel, parts=parts)
    centers = k_center(targets, p, kernel=kernel, generator=generator)
    picks = best_distinct(targets[centers], evidence.pool, p, kernel=kernel, parts=parts)
    assert picks.targets is not None
    return replace(picks, targets=centers[picks.targets])


def by_coverage(
    evidence: Features, p: int, generator: torch.Generator, kernel: Kernel, *, parts: Parts = WHOLE
) -> Picks:
    """Largest sum over targets of the best kernel value among the picks, greedily (facility location).

    A negative value covers nothing. With many targets for few picks, the picks are chosen for a drawn part of them.
    In `parts`, each part of the pool picks for itself first, and the picks are chosen among its picks.
    Where there are no more targets than picks, each target has its best match, then its second best: nothing covers
    more. Each pick's target is the one that is most like it; its score is what it added.
    """
    refuse_empty(len(evidence.targets))
    if len(evidence.targets) <= p:
        return best_distinct(evidence.targets, evidence.pool, p, kernel=kernel, parts=parts)
    rows = subsample(len(evidence.targets), max_targets(p), generator)
    rows = rows.to(evidence.pool.device)
    targets = evidence.targets[rows]
    weights = torch.ones_like(next(iter(targets.z.values()))[:, 0])
    picks = partitioned_cover(
        evidence.pool,
        p,
        similarity=partial(_with_targets, targets=targets, kernel=kernel),
        weights=weights,
        covered=torch.zeros_like(weights),
        generator=generator,
        parts=parts,
        keep=True,
    )
    blocks = _in_blocks(evidence.pool[picks.positions], targets)
    return replace(picks, targets=rows[joined((kernel(block, targets).argmax(dim=1) for _, block in blocks), p)])


def _with_targets(rows: Descriptors, *, targets: Descriptors, kernel: Kernel) -> Float[Tensor, "r m"]:
    return kernel(rows, targets)


def _in_blocks(rows: Descriptors, columns: Descriptors) -> Iterator[tuple[int, Descriptors]]:
    return rows.blocks(max(1, BLOCK_ENTRIES // len(columns)))


MATCHINGS: Mapping[str, Callable[..., Picks]] = MappingProxyType(
    {"k_center": by_centers, "coverage": by_coverage, "transport": by_transport}
)
"""How targets share the p picks, by the name that `acquisition.matching` takes."""
