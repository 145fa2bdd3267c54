"""Uncertainty sampling: the images of which a model's Monte Carlo passes are least sure.

Gal, Islam, Ghahramani: Deep Bayesian Active Learning with Image Data, ICML 2017. With an ensemble
the passes of all members are pooled (Beluch et al., The Power of Ensembles for Active Learning, CVPR 2018).
"""

import torch

from fkal.core.evidence import Uncertainty
from fkal.core.picks import Picks, largest


def select_variation_ratio(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest variation ratio (varR).

    Args:
        evidence: What the passes say of each open image.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> from fkal.core.uncertainty import uncertainty
        >>> sure, unsure = [[0.9, 0.1]] * 4, [[0.9, 0.1], [0.1, 0.9]] * 2
        >>> evidence = uncertainty(torch.tensor([sure, unsure]).transpose(0, 1))  # (passes images classes)
        >>> select_variation_ratio(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(evidence.variation_ratio, p, generator)


def select_entropy(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest entropy of the mean prediction.

    Args:
        evidence: What the passes say of each open image.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> from fkal.core.uncertainty import uncertainty
        >>> sure, unsure = [[0.9, 0.1]] * 4, [[0.9, 0.1], [0.1, 0.9]] * 2
        >>> evidence = uncertainty(torch.tensor([sure, unsure]).transpose(0, 1))  # (passes images classes)
        >>> select_entropy(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(evidence.entropy, p, generator)


def select_bald(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest mutual information between the label and the model.

    Args:
        evidence: What the passes say of each open image.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> from fkal.core.uncertainty import uncertainty
        >>> sure, unsure = [[0.9, 0.1]] * 4, [[0.9, 0.1], [0.1, 0.9]] * 2
        >>> evidence = uncertainty(torch.tensor([sure, unsure]).transpose(0, 1))  # (passes images classes)
        >>> select_bald(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(evidence.mutual_information, p, generator)


def select_mean_std(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest mean standard deviation of the class probabilities.

    Args:
        evidence: What the passes say of each open image.
        p: How many images to pick.
        generator: Source of every random choice.

    Returns:
        p distinct positions in the open pool, best first.

    Raises:
        ValueError: p exceeds the pool, or a score is NaN.

    Example:
        >>> from fkal.core.uncertainty import uncertainty
        >>> sure, unsure = [[0.9, 0.1]] * 4, [[0.9, 0.1], [0.1, 0.9]] * 2
        >>> evidence = uncertainty(torch.tensor([sure, unsure]).transpose(0, 1))  # (passes images classes)
        >>> select_mean_std(evidence, 1, torch.Generator()).positions.tolist()
        [1]
    """
    return largest(evidence.mean_std, p, generator)
