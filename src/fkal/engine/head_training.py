"""Training of a linear head on embeddings: to convergence, under the penalty that validation images choose."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fkal.engine.losses import Loss
from fkal.models.linear_head import LinearHead

PENALTIES = tuple(10 ** (power / 2) for power in range(4, -7, -1))
"""Weights of half the squared weights beside the mean loss, 100 to 0.001; each starts where the one before ended."""

MOST_STEPS = 500
TOLERANCE = 1e-6
"""Of the largest entry of the gradient, at which the head has converged."""
ROUGH = 1e-4
"""The same for heads that are only looked at: a feature check's figure stays to a tenth of a point, and a
cross-fitted class changes for one image in a thousand, in a third of the time."""


@dataclass(frozen=True)
class LabeledRows:
    """Embeddings with the labels of their images."""

    z: Float[Tensor, "n l"]
    y: Int[Tensor, " n"]


@dataclass(frozen=True)
class HeadFit:
    """The mean training loss (nats) of the head that was kept, and its penalty."""

    loss: float
    penalty: float


def fit_head(head: LinearHead, labeled: LabeledRows, validation: LabeledRows, loss: Loss) -> HeadFit:
    """Train the head in place, from zero.

    Of all penalties the one is kept whose head has the least mean cross-entropy on the validation images, every class
    at the same weight. The problem is convex, so neither the order of the labels nor the round before plays a part.

    Raises FloatingPointError where a loss is not finite.
    """
    best: tuple[float, HeadFit, Tensor] | None = None
    for fit, weights in penalty_path(labeled, loss, head.head.out_features):
        error = balanced_error(logits_of(weights, validation.z), validation.y)
        if best is None or error < best[0]:
            best = error, fit, weights
    assert best is not None
    _keep(head, best[2])
    return best[1]


def fit_head_under(head: LinearHead, labeled: LabeledRows, penalty: float, loss: Loss) -> HeadFit:
    """Train the head in place, from zero, under one of the penalties."""
    fits = penalty_path(labeled, loss, head.head.out_features)
    fit, weights = next((fit, weights) for fit, weights in fits if fit.penalty == penalty)
    _keep(head, weights)
    return fit


def penalty_path(
    labeled: LabeledRows, loss: Loss, n_classes: int, tolerance: float = TOLERANCE
) -> Iterator[tuple[HeadFit, Float[Tensor, "d l1"]]]:
    """The weights under each penalty, the largest first. Raises FloatingPointError where a loss is not finite."""
    counts = labeled.y.bincount(minlength=n_classes)
    weights = torch.zeros(n_classes, labeled.z.shape[1] + 1, dtype=torch.float64, device=labeled.z.device)
    for penalty in PENALTIES:
        weights = minimised(weights, labeled, penalty, lambda logits, y: loss(logits, y, counts), tolerance=tolerance)
        fit = HeadFit(float(loss(logits_of(weights, labeled.z), labeled.y, counts)), penalty)
        if not math.isfinite(fit.loss):
            raise FloatingPointError(f"the loss of a head with penalty {penalty:g} is {fit.loss}; check the embeddings")
        yield fit, weights


def _keep(head: LinearHead, weights: Float[Tensor, "d l1"]) -> None:
    with torch.no_grad():
        head.head.weight.copy_(weights[:, :-1])
        head.head.bias.copy_(weights[:, -1])


def logits_of(weights: Float[Tensor, "d l1"], z: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
    """The last column of the weights is the bias."""
    return F.linear(z.to(weights), weights[:, :-1], weights[:, -1])


def balanced_error(logits: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> float:
    """Mean over classes of their images' mean cross-entropy."""
    by_image = F.cross_entropy(logits, y, reduction="none")
    counts = y.bincount(minlength=logits.shape[1])
    weights = 1 / (counts.clamp(min=1) * (counts > 0).sum())
    return float((by_image * weights[y]).sum())


def minimised(
    start: Float[Tensor, "d l1"],
    labeled: LabeledRows,
    penalty: float,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    tolerance: float = TOLERANCE,
) -> Float[Tensor, "d l1"]:
    """The weights of least loss + penalty / 2 |W|^2, by L-BFGS until no entry of the gradient exceeds `tolerance`.

    float64. The bias is penalised as well: that of a class without a label would otherwise have no minimum.
    """
    weights, z = start.clone().requires_grad_(), labeled.z.to(start)
    solver = torch.optim.LBFGS(
        [weights],
        max_iter=MOST_STEPS,
        tolerance_grad=tolerance,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = loss(logits_of(weights, z), labeled.y) + penalty / 2 * weights.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(closure)
    return weights.detach()
