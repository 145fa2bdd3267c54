"""The whole pool labeled: what no acquisition can exceed but by leaving images out."""

import torch

from fkal.core.evidence import Nothing
from fkal.core.picks import Picks


def select(evidence: Nothing, p: int, generator: torch.Generator) -> Picks:
    """All positions, in order. Raises ValueError unless p is the size of the pool."""
    if p != evidence.n:
        raise ValueError(f"{p} picks of a pool of {evidence.n}; everything is {evidence.n}")
    return Picks(torch.arange(p))
