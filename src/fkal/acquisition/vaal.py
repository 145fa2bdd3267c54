"""VAAL: the images that a discriminator takes most surely for unlabeled.

Sinha, Ebrahimi, Darrell: Variational Adversarial Active Learning, ICCV 2019.
"""

import torch

from fkal.core.evidence import Discrimination
from fkal.core.picks import Picks, largest


def select(evidence: Discrimination, p: int, generator: torch.Generator) -> Picks:
    """Smallest probability of being labeled; the score is the probability of being unlabeled.

    Raises ValueError if p exceeds the pool.
    """
    return largest(1 - evidence.labeled_probability, p, generator)
