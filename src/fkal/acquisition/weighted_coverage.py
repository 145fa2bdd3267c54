"""Weighted coverage: facility location for all validation images, each of which counts by the model's doubt of it.

`ecov` serves the misclassified validation images, all alike, by the pool images that probably are of their class. Here
a validation image counts by what the model leaves to other classes, and a pool image helps it as far as the model does
not know its class yet: what the model is sure of is left.
"""

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from fkal.core.descriptors import Descriptors
from fkal.core.evidence import WeighedPosteriors
from fkal.core.facility_location import max_targets, rows_at_once
from fkal.core.kernels import r_z
from fkal.core.partitioned_cover import partitioned_cover
from fkal.core.picks import Picks, refuse_beyond, refuse_empty, refuse_unfinite
from fkal.core.pool_parts import WHOLE, Parts
from fkal.core.row_stream import PoolDescriptors, joined
from fkal.core.softmax import class_doubts

CLASSES = "classes"

BONUS = 1e-4
"""What a pick counts beside what it covers, as a part of its mean similarity with the targets. It decides where all
targets are covered as well as they can be, as where there are more picks than targets."""

ROWS = 1 << 16
"""Whose probabilities are multiplied at once."""


def select_wcov(evidence: WeighedPosteriors, p: int, generator: torch.Generator, *, parts: Parts = WHOLE) -> Picks:
    """Largest sum over validation images t of w_t times the best s(t, a) among the picks a, greedily.

    s(t, a) = max(0, R_z(t, a)) p(y_t | z_a) u(a, y_t), R_z being the mean over taps. w_t is how far the model is from
    t's class, 1 - p_model(y_t | t), and u(a, y) how unsure it is that a is of class y: 1 - max(0, p_y - max of the
    other classes' p). Before anything is labeled both are 1. Of many targets some are drawn in proportion to their
    weights. Where no image helps, picks are random. Labeled images are not read.

    Args:
        evidence: Features of the open pool and of all validation images; class probabilities, the estimator's and the
            model's.
        p: How many images to pick.
        generator: Source of every random choice.
        parts: In how many parts the pool is looked at, and by whom.

    Returns:
        p distinct positions in the open pool, with the target that each does most for; the score is what it added, the
        largest weight being 1.

    Raises:
        ValueError: p exceeds the pool, there is no validation image, or a number is NaN or infinite.
    """
    refuse_beyond(p, evidence.n)
    refuse_empty(len(evidence.targets))
    refuse_unfinite(evidence.posterior, evidence.weights)
    pool = evidence.pool.with_gradients({CLASSES: _helpful(evidence)})
    rows, weights = _drawn(evidence.weights, max_targets(p), generator)
    targets = _with_classes(evidence, rows)
    weights = weights.to(next(iter(targets.z.values())))
    rows = rows.to(weights.device)
    similarity = partial(_similarity, targets=targets)
    picks = partitioned_cover(
        pool,
        p,
        similarity=similarity,
        weights=weights,
        covered=torch.zeros_like(weights),
        generator=generator,
        parts=parts,
        bonus=partial(_alone, targets=targets, weights=weights),
        keep=True,
    )
    blocks = pool[picks.positions].blocks(rows_at_once(len(targets)))
    served = joined(((similarity(block) * weights).argmax(dim=1) for _, block in blocks), p)
    return replace(picks, targets=rows[served])


def _helpful(evidence: WeighedPosteriors) -> Float[Tensor, "n d"]:
    """p(y | z_a) u(a, y)."""
    if evidence.logits is None:
        return evidence.posterior
    refuse_unfinite(evidence.logits)
    parts = zip(evidence.posterior.split(ROWS), evidence.logits.split(ROWS), strict=True)
    return joined(
        (posterior * class_doubts(logits)[:, : posterior.shape[1]].to(posterior) for posterior, logits in parts),
        len(evidence.posterior),
    )


def _drawn(
    weights: Float[Tensor, " m"], most: int, generator: torch.Generator
) -> tuple[Int[Tensor, " t"], Float[Tensor, " t"]]:
    """Rows of the targets and what they count, the largest 1.

    Of more than `most`, so many are drawn in proportion to their weights, and each counts as often as it was drawn.
    Where no target counts anything, all count alike.
    """
    weights = weights if weights.amax() > 0 else torch.ones_like(weights)
    weights = weights / weights.amax()
    if len(weights) <= most:
        return torch.arange(len(weights), device=weights.device), weights
    drawn = torch.multinomial(weights.cpu(), most, replacement=True, generator=generator)
    rows, counts = drawn.unique(return_counts=True)
    return rows.to(weights.device), (counts / counts.amax()).to(weights)


def _with_classes(evidence: WeighedPosteriors, rows: Int[Tensor, " t"]) -> Descriptors:
    """Features of some targets; their classes, which are certain, stand in the place of gradients."""
    d = evidence.posterior.shape[1]
    classes = evidence.y_t[rows]
    certain = one_hot(classes, max(d, int(classes.max()) + 1))[:, :d]
    return Descriptors(evidence.targets[rows].z, {CLASSES: certain.to(evidence.posterior)})


def _similarity(rows: Descriptors, *, targets: Descriptors) -> Float[Tensor, "r t"]:
    """s(t, a)."""
    alike = r_z(rows, targets).div_(len(targets.z)).clamp_(min=0)
    return alike.mul_(rows.g[CLASSES] @ targets.g[CLASSES].T)


def _alone(pool: PoolDescriptors, *, targets: Descriptors, weights: Float[Tensor, " t"]) -> Float[Tensor, " n"]:
    """`BONUS` times the mean similarity of each image with the targets, by their weights."""
    blocks, share = pool.blocks(rows_at_once(len(targets))), BONUS * weights / weights.sum()
    return joined((_similarity(block, targets=targets) @ share for _, block in blocks), len(pool))
