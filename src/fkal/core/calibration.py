"""Calibration: the temperature at which a softmax is as sure as it is right.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

import torch
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
