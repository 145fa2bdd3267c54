"""Tail first: the classes that the pool is estimated to have fewest images of choose first.

A baseline that reads what our estimator knows of the pool, and no similarity.
"""

import torch

from fkal.core.evidence import Posteriors
from fkal.core.picks import Picks, largest, refuse_beyond, refuse_unfinite


def select_tail_first(evidence: Posteriors, p: int, generator: torch.Generator) -> Picks:
    """Images that most probably are of a rare class, as many a class as can be.

    Classes choose in the order of their estimated frequency in the pool, the rarest first. Each takes the images of
    its largest probability: an even share of the picks that are left, and no more images than the pool is expected to
    have of it. The last class takes the rest.

    Args:
        evidence: Class probabilities of the open pool, and the pool's class frequencies; where the estimator has none,
            the mean probabilities take their place.
        p: How many images to pick.
        generator: Source of the draws between equals.

    Returns:
        p distinct positions in the open pool, whose scores are their probabilities of the class that chose them.

    Raises:
        ValueError: p exceeds the pool, or a probability is NaN or infinite.
    """
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.posterior)
    posterior = evidence.posterior
    expected = posterior.double().sum(dim=0)
    prior = expected if evidence.prior is None else evidence.prior
    is_open = torch.ones(evidence.n, dtype=torch.bool, device=posterior.device)
    parts, left = [], p
    by_frequency = prior.argsort(stable=True).tolist()
    for classes_left, c in zip(range(len(by_frequency), 0, -1), by_frequency, strict=True):
        share = min(-(-left // classes_left), int(expected[c].ceil())) if classes_left > 1 else left
        if not share:
            continue
        rest = is_open.nonzero()[:, 0]
        picks = largest(posterior[rest, c], share, generator)
        parts.append(Picks(rest[picks.positions], scores=picks.scores))
        is_open[parts[-1].positions] = False
        left -= share
    scores = [part.scores for part in parts if part.scores is not None]
    return Picks(torch.cat([part.positions for part in parts]), scores=torch.cat(scores))
