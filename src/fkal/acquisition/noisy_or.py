"""Noisy-or over the whole validation set: every pick may help every validation image of its probable class."""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.evidence import WeighedPosteriors
from fkal.core.kernels import BLOCK_ENTRIES, r_z
from fkal.core.noisy_or import noisy_or
from fkal.core.picks import Picks, refuse_beyond, refuse_empty, refuse_unfinite


def select_noisy_or(
    evidence: WeighedPosteriors, p: int, generator: torch.Generator, *, block_entries: int = BLOCK_ENTRIES
) -> Picks:
    """Largest sum over validation images t of w_t (1 - prod over picks a of (1 - k(t, a))), greedily.

    k(t, a) = max(0, R_z(t, a)) p(y_t | z_a) u_a, R_z being the mean over taps, so that k is a probability. w_t is how
    far the model is from t's class and u_a how unsure it is of a. Labeled images of t's class count as picks whose p
    is 1.

    Args:
        evidence: Features of the open pool, of all validation images and of the labeled ones; class probabilities.
        p: How many images to pick.
        generator: Not read; nothing is drawn.
        block_entries: Similarities held at once.

    Returns:
        p distinct positions in the open pool, with the target that each adds most to.

    Raises:
        ValueError: p exceeds the pool, there is no validation image, or a number is NaN or infinite.
    """
    refuse_beyond(p, evidence.n)
    refuse_empty(len(evidence.targets))
    refuse_unfinite(evidence.posterior, evidence.weights, evidence.doubt, evidence.labeled_doubt)

    def helps(rows: Tensor) -> Tensor:
        likely = evidence.posterior[rows][:, evidence.y_t] * evidence.doubt[rows, None].to(evidence.posterior)
        return _alike(evidence.pool[rows], evidence.targets).mul_(likely)

    log_weights = _log_weights(evidence, block_entries)
    return noisy_or(helps, evidence.n, p, log_weights=log_weights, block_entries=block_entries)


def _log_weights(evidence: WeighedPosteriors, block_entries: int) -> Float[Tensor, " m"]:
    """log(w_t prod over labeled images a of t's class of (1 - max(0, R_z(t, a)) u_a))."""
    logs = evidence.weights.double().log()
    for first, block in evidence.labeled.blocks(max(1, block_entries // len(evidence.targets))):
        rows = slice(first, first + len(block))
        counts = (evidence.y[rows, None] == evidence.y_t) * evidence.labeled_doubt[rows, None].to(logs)
        logs = logs + torch.log1p(-_alike(block, evidence.targets).to(logs) * counts).sum(dim=0)
    return logs


def _alike(rows: Descriptors, targets: Descriptors) -> Float[Tensor, "r m"]:
    """max(0, R_z) as the mean over taps, in [0, 1]."""
    return r_z(rows, targets).div_(len(targets.z)).clamp_(0, 1)
