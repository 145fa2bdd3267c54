"""No label of the pool: what validation images alone teach, when they are trained on."""

import torch

from fkal.core.evidence import Nothing
from fkal.core.picks import Picks


def select(evidence: Nothing, p: int, generator: torch.Generator) -> Picks:
    """No positions. Raises ValueError unless p is 0."""
    if p:
        raise ValueError(f"{p} picks, and validation_only picks none; ask for 0")
    return Picks(torch.empty(0, dtype=torch.long))
