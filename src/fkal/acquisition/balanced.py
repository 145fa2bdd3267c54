"""BASE and balanced margin: for each class as many images, those nearest to its decision boundary.

Emam, Chu, Chiang, Czaja, Leapman, Goldblum, Goldstein: Active Learning at the ImageNet Scale, 2021 (arXiv 2111.12880).
An image of the class's own side counts by its nearest boundary, one of another side by that between its class and this.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.evidence import LastLayer, Predictions
from fkal.core.picks import Picks, largest, refuse_beyond, refuse_unfinite
from fkal.core.softmax import class_margins


def select_balanced_margin(evidence: Predictions, p: int, generator: torch.Generator) -> Picks:
    """By differences of class probabilities: margin sampling, class by class."""
    refuse_unfinite(evidence.logits)
    return _nearest_by_class(class_margins(evidence.logits.double().softmax(dim=1)), p, generator)


def select_base(evidence: LastLayer, p: int, generator: torch.Generator) -> Picks:
    """By Euclidean distance in the space of the features that enter the last layer."""
    logits, weight = evidence.pool.logits, evidence.weight
    refuse_unfinite(logits, weight)
    between = torch.linalg.vector_norm(weight[:, None] - weight[None], dim=2)  # (d d)
    return _nearest_by_class(class_margins(logits.double(), between.double()), p, generator)


def _nearest_by_class(distances: Float[Tensor, "n d"], p: int, generator: torch.Generator) -> Picks:
    """p/d of each class, best first, class by class in a drawn order; what is left over goes to the first of these.

    The score is minus the distance.
    """
    n, d = distances.shape
    refuse_beyond(p, n)
    is_open = torch.ones(n, dtype=torch.bool, device=distances.device)
    parts = []
    for i, c in enumerate(torch.randperm(d, generator=generator).tolist()):
        share = p // d + (i < p % d)
        if not share:
            break
        rest = is_open.nonzero()[:, 0]
        picks = largest(-distances[rest, c], share, generator)
        parts.append(Picks(rest[picks.positions], scores=picks.scores))
        is_open[parts[-1].positions] = False
    scores = [part.scores for part in parts if part.scores is not None]
    return Picks(torch.cat([part.positions for part in parts]), scores=torch.cat(scores))
