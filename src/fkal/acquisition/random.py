"""Random acquisition: the baseline that every method has to beat."""

import torch

from fkal.core.evidence import Nothing
from fkal.core.picks import Picks


def select(evidence: Nothing, p: int, generator: torch.Generator) -> Picks:
    """p positions drawn without replacement, all equally likely.

    Raises ValueError if p exceeds the pool.
    """
    if not 1 <= p <= evidence.n:
        raise ValueError(f"{p} picks of a pool of {evidence.n}; ask for 1 to {evidence.n}")
    return Picks(torch.randperm(evidence.n, generator=generator)[:p])
