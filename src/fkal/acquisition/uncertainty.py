"""Uncertainty sampling: the images of which a model's Monte Carlo passes are least sure.

Gal, Islam, Ghahramani: Deep Bayesian Active Learning with Image Data, ICML 2017. With an ensemble
the passes of all members are pooled (Beluch et al., The Power of Ensembles for Active Learning, CVPR 2018).
"""

import torch

from fkal.core.evidence import Uncertainty
from fkal.core.picks import Picks, largest


def select_variation_ratio(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest variation ratio (varR)."""
    return largest(evidence.variation_ratio, p, generator)


def select_entropy(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest entropy of the mean prediction."""
    return largest(evidence.entropy, p, generator)


def select_bald(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest mutual information between the label and the model."""
    return largest(evidence.mutual_information, p, generator)


def select_mean_std(evidence: Uncertainty, p: int, generator: torch.Generator) -> Picks:
    """Largest mean standard deviation of the class probabilities."""
    return largest(evidence.mean_std, p, generator)
