"""Label shift: the class frequencies of a pool, from posteriors that were made for other frequencies.

Where p(z|y) is the same for validation and pool images but p(y) is not, p(y|z) of the pool is proportional to
p_v(y|z) w(y), w being the ratio of both priors, which expectation-maximisation finds without a label: Saerens,
Latinne, Decaestecker, Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural Computation 2002;
Alexandari, Kundaje, Shrikumar, Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
Adaptation, ICML 2020 (which says why the posteriors have to be calibrated).
"""

from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor

TOLERANCE = 1e-7
"""A prior that moves by less in a step has converged."""

MOST_STEPS = 1000

SUMMED_ENTRIES = 1 << 25
"""Probabilities that are shifted and summed at once: 256 MiB. A pool of more has its sum added up part by part."""


def shifted(p: Float[Tensor, "n d"], prior: Float[Tensor, " d"]) -> Float[Tensor, "n d"]:
    """Posteriors under `prior`, from posteriors `p` under equal class frequencies."""
    weighted = p * prior.to(p)
    return weighted.div_(weighted.sum(dim=1, keepdim=True))


def estimated_prior(p: Float[Tensor, "n d"], known: Int[Tensor, " b"] | None = None) -> Float[Tensor, " d"]:
    """The prior under which n + b images are most likely: n of which posteriors `p` under equal class frequencies are
    at hand, and b whose class is `known` (any of d and above are left out). float64.

    Starts from equal frequencies; each step takes the mean posterior under the prior of the step before, that of a
    known image being its class. Raises ValueError for a row that is no distribution.
    """
    p = p.double()
    parts = p.split(max(1, SUMMED_ENTRIES // p.shape[1]))
    if not (len(p) and all(map(_distributions, parts))):
        raise ValueError("a row of class probabilities is empty, negative or not finite; check the model's outputs")
    d = p.shape[1]
    counts = torch.zeros(d).to(p) if known is None else known.bincount(minlength=d)[:d].to(p)
    prior = torch.full_like(p[0], 1 / d)
    for _ in range(MOST_STEPS):
        total = reduce(Tensor.add_, (shifted(part, prior).sum(dim=0) for part in parts))
        before, prior = prior, (total + counts) / (len(p) + counts.sum())
        if float((prior - before).abs().amax()) < TOLERANCE:
            break
    return prior


def _distributions(p: Float[Tensor, "n d"]) -> bool:
    return bool(p.isfinite().all() and (p >= 0).all() and (p.sum(dim=1) > 0).all())
