"""Expected coverage: facility location under labels that are probable, not certain.

What `coverage` asks of a gradient under one guessed label, whether a pool image is of the target's class, is asked of
the estimator's class probabilities.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.acquisition.fisher import by_coverage
from fkal.core.descriptors import Descriptors
from fkal.core.evidence import Features, Posteriors
from fkal.core.kernels import r_z
from fkal.core.picks import Picks, refuse_unfinite
from fkal.core.pool_parts import WHOLE, Parts

CLASSES = "classes"


def select_ecov(evidence: Posteriors, p: int, generator: torch.Generator, *, parts: Parts = WHOLE) -> Picks:
    """Largest sum over targets t of the best max(0, R_z(t, a)) p(y_t | z_a) among the picks a, greedily.

    Args:
        evidence: Features of the open pool and of the targets, classes of these, class probabilities of those.
        p: How many images to pick.
        generator: Source of every random choice.
        parts: In how many parts the pool is looked at, and by whom.

    Returns:
        p distinct positions in the open pool, with the target that each is most similar to.

    Raises:
        ValueError: p exceeds the pool, there is no target, or a number is NaN or infinite.
    """
    refuse_unfinite(evidence.posterior)
    d = evidence.posterior.shape[1]
    one_hot = torch.nn.functional.one_hot(evidence.y_t, max(d, int(evidence.y_t.max()) + 1) if len(evidence.y_t) else d)
    pool = evidence.pool.with_gradients({CLASSES: evidence.posterior})
    targets = Descriptors(evidence.targets.z, {CLASSES: one_hot[:, :d].to(evidence.posterior)})
    picks = by_coverage(Features(pool, targets), p, generator, expected_similarity, parts=parts)
    assert picks.scores is not None
    return replace(picks, scores=picks.scores.clamp(min=0))


def expected_similarity(rows: Descriptors, columns: Descriptors) -> Float[Tensor, "m n"]:
    """R_z p(y_t | z_a), the classes of one side being certain. Where that is 0 or less nothing is covered; the value
    is then R_z less its largest, which is 0 or less as well and ranks such images by their features."""
    alike = r_z(rows, columns)
    likely = alike * (rows.g[CLASSES] @ columns.g[CLASSES].T)
    return torch.where(likely > 0, likely, (alike - len(rows.z)).clamp_(max=0))
