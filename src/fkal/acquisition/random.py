"""Random acquisition: the baseline that every method has to beat."""

import torch

from fkal.core.evidence import Nothing
from fkal.core.picks import Picks


def select(evidence: Nothing, p: int, generator: torch.Generator) -> Picks:
    """p positions drawn without replacement, all equally likely."""
    return Picks(torch.randperm(evidence.n, generator=generator)[:p])
