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
        self.is_shared = False

    def forward(self, x: Tensor) -> Tensor:
        if self.generator is None:
            return x
        if self.is_shared:
            return (x * _kept(x[:1].contiguous(), self.p, self.generator)).mul_(1 / (1 - self.p))
        return (x * _kept(x, self.p, self.generator)).mul_(1 / (1 - self.p))


def _kept(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Independent ones and zeros in the shape, layout and type of x, 0 with probability p (to 1 in 65,536).

    Sixteen random bits decide an entry: four entries a draw, since the draws are what sampling costs. They are numbers
    of x's type because booleans would have to become such to be multiplied with.
    """
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=generator.device)
    bits = words.random_(-(1 << 63), None, generator=generator).view(torch.int16)  # uniform over all int16
    threshold = min(round(p * (1 << 16)), (1 << 16) - 1) - (1 << 15)
    kept = torch.empty(x.numel(), dtype=x.dtype, device=bits.device)
    torch.ge(bits[: x.numel()], threshold, out=kept)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return kept.as_strided(x.shape, x.stride()).to(x.device)
    return kept.view(x.shape).to(x.device)


@contextmanager
def monte_carlo_dropout(model: nn.Module, generator: torch.Generator, *, shared: bool = False) -> Iterator[nn.Module]:
    """Within the block every forward pass of `model` draws dropout masks from `generator`.

    A mask is an image's own or, `shared`, that of all images of the pass, which then go through one drawn network.
    Raises ValueError if the model has no `MonteCarloDropout` layer.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, MonteCarloDropout)]
    if not layers:
        raise ValueError("the model has no MonteCarloDropout layer; build it with fkal.models.registry.build")
    for layer in layers:
        layer.generator, layer.is_shared = generator, shared
    try:
        yield model
    finally:
        for layer in layers:
            layer.generator, layer.is_shared = None, False
