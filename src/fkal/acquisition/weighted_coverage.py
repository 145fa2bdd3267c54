"""Weighted coverage: facility location for all validation images, each of which counts by the model's doubt of it.

`coverage` and `ecov` serve the misclassified validation images, all alike, by the pool images that are like them.
Here a validation image counts by what the model leaves to other classes, and a pool image helps it as far as the model
does not know its class yet: what the model is sure of is left. `wcov` compares images as `ecov` does, by features and
class probabilities, `wcov_zg` as `coverage` does, by the Fisher kernel.
"""

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, pad

from fkal.core.descriptors import Descriptors
from fkal.core.evidence import WeighedPosteriors, WeighedScores
from fkal.core.facility_location import max_targets, rows_at_once
from fkal.core.kernels import R_ZG, Kernel, r_z
from fkal.core.partitioned_cover import RowSimilarity, partitioned_cover
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
    targets = Descriptors(evidence.targets[rows].z, {CLASSES: _classes(evidence.y_t[rows], evidence.posterior)})
    return _cover(pool, p, targets, partial(_by_posterior, targets=targets), rows, weights, generator, parts)


def select_wcov_zg(
    evidence: WeighedScores, p: int, generator: torch.Generator, *, combine: str, parts: Parts = WHOLE
) -> Picks:
    """The same with s(t, a) = max(0, R_zg(t, a)) u(a, y_t): the Fisher kernel in the place of R_z and p(y_t | z_a).

    Args:
        evidence: Features and gradients of the open pool and of all validation images; the model's logits.
        p: How many images to pick.
        generator: Source of every random choice.
        combine: How R_z and R_g meet: a name of `fkal.core.kernels.R_ZG`.
        parts: In how many parts the pool is looked at, and by whom.

    Returns:
        p distinct positions in the open pool, with the target that each does most for; the score is what it added, the
        largest weight being 1.

    Raises:
        ValueError: p exceeds the pool, there is no validation image, or a number is NaN or infinite.
    """
    refuse_beyond(p, evidence.n)
    refuse_empty(len(evidence.targets))
    refuse_unfinite(evidence.weights)
    rows, weights = _drawn(evidence.weights, max_targets(p), generator)
    pool, targets = evidence.pool, evidence.targets[rows]
    if evidence.logits is not None:
        doubts = _doubts(evidence.logits, int(evidence.y_t.max()) + 1).to(next(iter(targets.z.values())))
        pool = pool.with_one_more(CLASSES, doubts)
        targets = targets.with_one_more(CLASSES, _classes(evidence.y_t[rows], doubts))
    similarity = partial(_by_kernel, targets=targets, kernel=R_ZG[combine])
    return _cover(pool, p, targets, similarity, rows, weights, generator, parts)


def _cover(
    pool: PoolDescriptors,
    p: int,
    targets: Descriptors,
    similarity: RowSimilarity,
    rows: Int[Tensor, " t"],
    weights: Float[Tensor, " t"],
    generator: torch.Generator,
    parts: Parts,
) -> Picks:
    """The picks for targets that stand in these `rows` of the validation images."""
    weights = weights.to(next(iter(targets.z.values())))
    rows = rows.to(weights.device)
    picks = partitioned_cover(
        pool,
        p,
        similarity=similarity,
        weights=weights,
        covered=torch.zeros_like(weights),
        generator=generator,
        parts=parts,
        bonus=partial(_alone, similarity=similarity, weights=weights),
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


def _doubts(logits: Float[Tensor, "n e"], classes: int) -> Float[Tensor, "n d"]:
    """u(a, y) of at least so many classes; of one that the model does not have it knows nothing."""
    refuse_unfinite(logits)
    return pad(class_doubts(logits), (0, max(0, classes - logits.shape[1])), value=1.0)


def _classes(classes: Int[Tensor, " t"], like: Float[Tensor, "n d"]) -> Float[Tensor, "t d"]:
    """1 for the class of each target, which is certain; nothing of a class that the pool has no column for."""
    d = like.shape[1]
    return one_hot(classes, max(d, int(classes.max()) + 1))[:, :d].to(like)


def _by_posterior(rows: Descriptors, *, targets: Descriptors) -> Float[Tensor, "r t"]:
    """s(t, a) of `wcov`."""
    alike = r_z(rows, targets).div_(len(targets.z)).clamp_(min=0)
    return alike.mul_(rows.g[CLASSES] @ targets.g[CLASSES].T)


def _by_kernel(rows: Descriptors, *, targets: Descriptors, kernel: Kernel) -> Float[Tensor, "r t"]:
    """s(t, a) of `wcov_zg`; without the model's doubt where it has none yet."""
    alike = kernel(_scores(rows), _scores(targets)).clamp_(min=0)
    return alike.mul_(rows.g[CLASSES] @ targets.g[CLASSES].T) if CLASSES in targets.g else alike


def _scores(rows: Descriptors) -> Descriptors:
    """z and g alone."""
    return Descriptors(rows.z, {tap: rows.g[tap] for tap in rows.z})


def _alone(pool: PoolDescriptors, *, similarity: RowSimilarity, weights: Float[Tensor, " t"]) -> Float[Tensor, " n"]:
    """`BONUS` times the mean similarity of each image with the targets, by their weights."""
    blocks, share = pool.blocks(rows_at_once(len(weights))), BONUS * weights / weights.sum()
    return joined((similarity(block) @ share for _, block in blocks), len(pool))
