"""Random acquisition: the baseline that every method has to beat."""

import torch

from fkal.core.evidence import Nothing
from fkal.core.picks import Picks


def select(evidence: Nothing, p: int, generator: torch.Generator) -> Picks:
    """p positions drawn without replacement, all equally likely.

    Args:
        evidence: How many images are open.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool.

    Example:
        >>> len(select(Nothing(100), 5, torch.Generator()).positions)
        5
    """
    if not 1 <= p <= evidence.n:
        raise ValueError(f"{p} picks of a pool of {evidence.n}; ask for 1 to {evidence.n}")
    return Picks(torch.randperm(evidence.n, generator=generator)[:p])
