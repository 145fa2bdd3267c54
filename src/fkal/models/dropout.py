"""Dropout that exists only while sampling: Monte Carlo dropout as a mode of the same weights.

Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016; the paper's networks train
without dropout and switch it on to sample.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MonteCarloDropout(nn.Module):
    """Identity, in training and evaluation alike, unless `monte_carlo_dropout` is active."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout probability {p}; give a value in [0, 1)")
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.generator is None:
            return x
        keep = torch.rand(x.shape, generator=self.generator, device=self.generator.device)
        return x * (keep >= self.p).to(x) / (1 - self.p)


@contextmanager
def monte_carlo_dropout(model: nn.Module, generator: torch.Generator) -> Iterator[nn.Module]:
    """Within the block every forward pass of `model` draws dropout masks from `generator`.

    Raises ValueError if the model has no `MonteCarloDropout` layer.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, MonteCarloDropout)]
    if not layers:
        raise ValueError("the model has no MonteCarloDropout layer; build it with fkal.models.build")
    for layer in layers:
        layer.generator = generator
    try:
        yield model
    finally:
        for layer in layers:
            layer.generator = None
