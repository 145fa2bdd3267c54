"""VAAL: the images that a discriminator takes most surely for unlabeled.

Sinha, Ebrahimi, Darrell: Variational Adversarial Active Learning, ICCV 2019.
"""

import torch

from fkal.core.evidence import Discrimination
from fkal.core.picks import Picks, largest


def select(evidence: Discrimination, p: int, generator: torch.Generator) -> Picks:
    """Smallest probability of being labeled; the score is minus that, which still tells 1e-9 from 1e-12.

    Raises ValueError if p exceeds the pool.
    """
    return largest(-evidence.labeled_probability, p, generator)
