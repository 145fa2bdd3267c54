"""Calibration: the temperature at which a softmax is as sure as it is right, alone or with a bias for each class.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017. With biases: Alexandari, Kundaje,
Shrikumar, ICML 2020, who need it to estimate class frequencies (`fkal.core.label_shift`).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

BINS = 15
"""Of equal width, over confidence."""

TEMPERATURES = tuple(1 + i / 10 for i in range(190))
"""Those tried, as in the program of Bae et al. (ICLR 2025): 1 to 19.9."""


def expected_calibration_error(logits: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean over images of |accuracy - mean confidence| of the image's bin."""
    confidence, y_hat = logits.double().softmax(dim=1).max(dim=1)
    excess = confidence - (y_hat == y).double()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    return torch.zeros(BINS, dtype=torch.float64, device=y.device).index_add_(0, bins, excess).abs().sum() / len(y)


def temperature(logits: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> float:
    """The temperature of the smallest expected calibration error; of equals the smaller."""
    errors = torch.stack([expected_calibration_error(logits / t, y) for t in TEMPERATURES])
    return TEMPERATURES[int(errors.argmin())]


MOST_STEPS = 200
LOG_SHARPNESS, BIAS = 2.0, 1.5
"""Spreads of the priors of `bias_corrected`, by simulations with 1 to 30 images per class. With less, strong biases
stay where images are few; with more, there is more noise where nothing is to be corrected."""
MOST_LOG_SHARPNESS = 10.0
"""Either way; beyond it powers overflow in a line search."""


class Calibration(NamedTuple):
    """Class probabilities are the softmax of `sharpness` (one over the temperature) * log p + `bias`."""

    sharpness: Float[Tensor, ""]
    bias: Float[Tensor, " d"]

    def __call__(self, log_p: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return (log_p * self.sharpness + self.bias).softmax(dim=1)


def bias_corrected(log_p: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Calibration:
    """Bias-corrected temperature scaling of posteriors under equal class frequencies, by images of classes y. float64.

    The images' own class frequencies are taken off, so what is calibrated is under equal ones again. A departure from
    the paper: normal priors around no correction, under which the most probable values are taken, of the logarithm of
    the sharpness and of each bias before and after sharpening. Few images therefore change little, images that are all
    right do not make the model infinitely sure, and a class without an image keeps the bias 0.
    """
    log_p = log_p.double()
    if not len(y):
        return Calibration(torch.ones_like(log_p.sum()), torch.zeros_like(log_p.sum(dim=0)))
    counts = y.bincount(minlength=log_p.shape[1]).to(log_p)
    present = counts > 0
    number = (present.cumsum(dim=0) - 1)[y]
    log_p, log_prior = log_p[:, present], (counts[present] / len(y)).log()
    x = torch.zeros(1 + len(log_prior), dtype=torch.float64, device=log_p.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([x], max_iter=MOST_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        sharpness, bias = _unscaled(x)
        error = F.cross_entropy(log_p * sharpness + bias + log_prior, number, reduction="sum")
        loss = error + (x[0] / LOG_SHARPNESS).square() / 2 + x[1:].square().sum() / 2
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    sharpness, bias = _unscaled(x.detach())
    return Calibration(sharpness, torch.zeros_like(counts).masked_scatter(present, bias))


def _unscaled(x: Float[Tensor, " d1"]) -> tuple[Float[Tensor, ""], Float[Tensor, " d"]]:
    """The sharpness, and the biases: the sum of one before sharpening and one after it has this spread."""
    sharpness = x[0].clamp(-MOST_LOG_SHARPNESS, MOST_LOG_SHARPNESS).exp()
    return sharpness, x[1:] * BIAS * (1 + sharpness.square()).sqrt()
