"""Core-set: pool images that leave no pool image far from a labeled one.

Sener and Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018;
the greedy 2-approximation of the k-center problem, in the Euclidean distance of task features.
"""

import torch

from fkal.core.centers import farthest_first
from fkal.core.evidence import Coverage
from fkal.core.picks import Picks


def select(evidence: Coverage, p: int, generator: torch.Generator) -> Picks:
    """The p pool images that greedy k-center adds to the labeled ones; the score is the distance when added.

    While nothing is labeled, the first is drawn at random.

    Args:
        evidence: Features of the open pool and of the labeled images.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool.

    Example:
        >>> pool, labeled = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[0.5]])
        >>> select(Coverage(pool, labeled), 1, torch.Generator()).positions.tolist()
        [2]
    """
    positions, distances = farthest_first(evidence.pool, evidence.labeled, p, generator=generator)
    return Picks(positions, scores=distances)
