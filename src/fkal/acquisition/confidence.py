"""The images of which a single pass of the model, without dropout, is least sure."""

import torch

from fkal.core import softmax
from fkal.core.evidence import Predictions
from fkal.core.picks import Picks, largest


def select_least_confidence(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Largest 1 - max_c p_c.

    Args:
        evidence: Logits of the open pool.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> evidence = Predictions(torch.tensor([[4.0, 0.0], [0.1, 0.0], [0.0, 2.0]]))
        >>> select_least_confidence(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(softmax.least_confidence(evidence.logits), p, generator)


def select_margin(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Smallest difference of the two largest probabilities; the score is 1 - that.

    Args:
        evidence: Logits of the open pool.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> evidence = Predictions(torch.tensor([[4.0, 0.0], [0.1, 0.0], [0.0, 2.0]]))
        >>> select_margin(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(softmax.margin(evidence.logits), p, generator)


def select_entropy(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Largest entropy.

    Args:
        evidence: Logits of the open pool.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> evidence = Predictions(torch.tensor([[4.0, 0.0], [0.1, 0.0], [0.0, 2.0]]))
        >>> select_entropy(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(softmax.entropy(evidence.logits), p, generator)
