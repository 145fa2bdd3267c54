"""PCC and PFK: pool images that match misclassified validation images (Algorithm 1).

Gudovskiy, Hodgkinson, Yamaguchi, Tsukizawa: Deep Active Learning for Biased Datasets via Fisher
Kernel Self-Supervision, CVPR 2020.
"""

from dataclasses import replace

import torch

from fkal.core.centers import k_center
from fkal.core.evidence import Features, FisherScores
from fkal.core.kernels import R_ZG, Kernel, r_z
from fkal.core.picks import Picks, best_distinct


def select_pcc(evidence: Features, p: int, generator: torch.Generator) -> Picks:
    """Largest Pearson similarity of features, R_z (eq. 6)."""
    return _select(evidence, p, generator, r_z)


def select_pfk(evidence: FisherScores, p: int, generator: torch.Generator, *, combine: str) -> Picks:
    """Largest Fisher kernel, R_zg (eq. 12); `combine` says how R_z and R_g meet."""
    return _select(evidence, p, generator, R_ZG[combine])


def _select(evidence: Features, p: int, generator: torch.Generator, kernel: Kernel) -> Picks:
    """Greedy k-center on the targets where there are more than p, then distinct best matches."""
    targets = evidence.targets
    if len(targets) <= p:
        return best_distinct(targets, evidence.pool, p, kernel=kernel)
    centers = k_center(targets, p, kernel=kernel, generator=generator)
    picks = best_distinct(targets[centers], evidence.pool, p, kernel=kernel)
    assert picks.targets is not None
    return replace(picks, targets=centers[picks.targets])
