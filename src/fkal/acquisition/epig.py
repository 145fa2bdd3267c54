"""EPIG: the images whose labels would tell most of the predictions for validation images.

Bickford Smith, Kirsch, Farquhar, Gal, Foster, Rainforth: Prediction-Oriented Bayesian Active Learning, AISTATS 2023.
"""

import torch

from fkal.core.evidence import PredictiveInformation
from fkal.core.picks import Picks, largest


def select(evidence: PredictiveInformation, p: int, generator: torch.Generator) -> Picks:
    """Largest expected predictive information gain, each image by itself (the paper picks one at a time)."""
    return largest(evidence.epig, p, generator)
