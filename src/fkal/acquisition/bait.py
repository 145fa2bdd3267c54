"""BAIT: images whose Fisher information of the last layer brings the labeled set's closest to the pool's.

Ash, Goel, Krishnamurthy, Kakade: Gone Fishing: Neural Active Learning with Fisher Embeddings, NeurIPS 2021.
"""

import torch

from fkal.core.evidence import Outputs, Supervised
from fkal.core.facility_location import BESIDE_PRODUCT, subsample
from fkal.core.last_layer_fisher import BaitState
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite

OVERSAMPLING = 2
"""So many times the picks are taken before the surplus is given back."""

WORK = 1 << 37
"""Multiplications that looking at the pool may take; some seconds on two cores."""


def select(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """Smallest tr(M^-1 F) for F of the pool and M of labeled and picked images, by greedy forth and back.

    Of the information of the last layer, (diag(p) - p p^T) x b b^T, the d blocks of single classes are kept, as in
    FIRAL (Chen, Wen, Biros, SC 2024): p_c (1 - p_c) b b^T. With L labels, M counts a labeled image 1 / (L + p) and a
    pick p / (L + p), as the authors' program does. The score is how much a pick lowers the trace when it is taken. With
    more images than can be looked at in some seconds, a random part stands for the pool. Raises ValueError if p exceeds
    the pool or an output is not finite.
    """
    refuse_beyond(p, evidence.n)
    pool, labeled = evidence.pool, evidence.labeled
    refuse_unfinite(pool.logits, pool.features, labeled.logits, labeled.features)
    d, width = pool.logits.shape[1], pool.features.shape[1]
    at_most = max(OVERSAMPLING * p, WORK // (2 * d * width * (width + BESIDE_PRODUCT)))
    part = subsample(evidence.n, at_most, generator).to(pool.logits.device)
    pool = pool[part]
    every = len(labeled) + p
    design = BaitState.of(_both(pool, labeled), labeled, pool, labeled_share=1 / every, pick_share=p / every)
    gains = {}
    for _ in range(min(OVERSAMPLING * p, len(part))):
        row, gain = design.best()
        gains[row] = gain
        design.take(row)
    while len(gains) > p:
        row = design.least(list(gains))
        design.give_back(row)
        del gains[row]
    return Picks(part[torch.tensor(list(gains), device=part.device)], scores=torch.tensor(list(gains.values())))


def _both(pool: Outputs, labeled: Outputs) -> Outputs:
    return Outputs(torch.cat([pool.logits, labeled.logits]), torch.cat([pool.features, labeled.features]))
