"""The images of which a single pass of the model, without dropout, is least sure."""

import torch

from fkal.core import softmax
from fkal.core.evidence import Predictions
from fkal.core.picks import Picks, largest


def select_least_confidence(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Largest 1 - max_c p_c."""
    return largest(softmax.least_confidence(evidence.logits), p, generator)


def select_margin(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Smallest difference of the two largest probabilities; the score is 1 - that."""
    return largest(softmax.margin(evidence.logits), p, generator)


def select_entropy(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """Largest entropy."""
    return largest(softmax.entropy(evidence.logits), p, generator)
