"""ProbCover, MaxHerding and UHerding: images that cover the pool, by facility location over it.

All look at the features that enter the last layer, brought to unit length. Where one look at all pairs would take
more than half a minute, a drawn part of the pool stands for it, to be picked from and to be covered alike.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.acquisition.clusters import k_means
from fkal.core.calibration import temperature
from fkal.core.evidence import Calibrated, Supervised
from fkal.core.facility_location import facility_location, max_pool, rows_at_once, subsample
from fkal.core.picks import Picks, refuse_beyond, refuse_unfinite
from fkal.core.row_stream import joined
from fkal.core.softmax import margin

Kernel = Callable[[Tensor], Tensor]
"""Squared distances to similarities; it may overwrite them."""

PURITY = 0.95
"""The part of the balls that have to be pure (Yehuda et al., section 4.2)."""

FIRST_RADIUS = 1.0
"""Of the kernel while fewer than two images are labeled."""

EPSILON = 1e-4
"""Of greedy over drawn candidates. While nothing is labeled each pick covers a little of everything, so that old gains
bound nothing and every drawn candidate costs a look at the whole pool: fewer are drawn than for targets of D_v."""

FARTHEST = 4.0
"""The largest squared distance of images of unit length."""

COPY = 2e-3
"""Images of unit length that are no farther apart count as copies: float32 rounds their squared distance, 4e-6, by up
to 5e-7. A radius of that size would make a similarity of what is rounded."""

NOTHING = -80.0
"""The exponential of this is nothing beside 1, and not yet one of the tiny numbers that processors are slow with."""


def select_probcover(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """The images whose balls of radius delta hold most images that no ball of a labeled one does; their number.

    Yehuda, Dekel, Hacohen, Weinshall: Active Learning Through a Covering Lens, NeurIPS 2022. delta is the largest
    radius at which 95 % of the balls are pure, classes being those of k-means with as many clusters as classes.
    """
    part = _part(evidence, p, generator)
    pool, labeled = _unit(evidence.pool.features[part]), _unit(evidence.labeled.features)
    delta = _pure_radius(pool, k_means(pool, evidence.pool.logits.shape[1], generator))

    def in_ball(squared: Tensor) -> Tensor:
        return squared.lt_(delta**2)  # 0 and 1 in place: booleans and their conversion took a third of the time

    return _covering(part, pool, labeled, in_ball, torch.ones_like(pool[:, 0]), p, generator)


def select_maxherding(evidence: Supervised, p: int, generator: torch.Generator) -> Picks:
    """The images to which the pool is most similar, under a Gaussian kernel of radius 1.

    Bae, Noh, Sutherland: Generalized Coverage for More Robust Low-Budget Active Learning, ECCV 2024.
    """
    part = _part(evidence, p, generator)
    pool, labeled = _unit(evidence.pool.features[part]), _unit(evidence.labeled.features)
    kernel = partial(_gaussian, radius=FIRST_RADIUS)
    return _covering(part, pool, labeled, kernel, torch.ones_like(pool[:, 0]), p, generator)


def select_uherding(evidence: Calibrated, p: int, generator: torch.Generator) -> Picks:
    """The same, each pool image weighted by how unsure the model is of it (1 - margin).

    Bae, Oliveira, Sutherland: Uncertainty Herding: One Active Learning Method for All Label Budgets, ICLR 2025. The
    kernel's radius is the smallest distance between labeled images that are no copies. The temperature of the softmax
    is calibrated on the validation images; the paper calibrates a second model on a part of the labeled ones.
    """
    part = _part(evidence, p, generator)
    refuse_unfinite(evidence.validation_logits)
    pool, labeled = _unit(evidence.pool.features[part]), _unit(evidence.labeled.features)
    unsure = margin(evidence.pool.logits[part] / temperature(evidence.validation_logits, evidence.y_v))
    kernel = partial(_gaussian, radius=_smallest_distance(labeled))
    return _covering(part, pool, labeled, kernel, unsure.to(pool), p, generator)


def _part(evidence: Supervised, p: int, generator: torch.Generator) -> Int[Tensor, " s"]:
    """Positions that stand for the pool."""
    refuse_beyond(p, evidence.n)
    refuse_unfinite(evidence.pool.features, evidence.labeled.features, evidence.pool.logits)
    at_most = max_pool(p, evidence.pool.features.shape[1])
    return subsample(evidence.n, at_most, generator).to(evidence.pool.features.device)


def _covering(
    part: Int[Tensor, " s"],
    pool: Float[Tensor, "s l"],
    labeled: Float[Tensor, "m l"],
    kernel: Kernel,
    weights: Float[Tensor, " s"],
    p: int,
    generator: torch.Generator,
) -> Picks:
    """p of the part that cover it together with the labeled images."""
    covered = torch.zeros_like(pool[:, 0])
    if len(labeled):
        parts = pool.split(rows_at_once(len(labeled)))
        covered = joined((kernel(_squared(labeled, targets)).amax(dim=0) for targets in parts), len(pool))

    def similarity(rows: Tensor) -> Tensor:
        squared = _squared(pool[rows], pool)
        squared[torch.arange(len(rows), device=rows.device), rows] = 0  # an image covers itself, whatever is rounded
        return kernel(squared)

    picks = facility_location(
        similarity, len(pool), p, weights=weights, covered=covered, generator=generator, epsilon=EPSILON
    )
    return Picks(part[picks.positions], scores=picks.scores)


def _pure_radius(rows: Float[Tensor, "s l"], clusters: Int[Tensor, " s"]) -> Float[Tensor, ""]:
    """The largest delta at which a share of `PURITY` of the balls |x - x'| < delta holds one cluster alone.

    A ball is pure up to the distance of the nearest image of another cluster, so delta is a quantile of these.
    """
    clusters = clusters.to(rows)
    size = rows_at_once(len(rows))

    def to_others(part: Tensor, own: Tensor) -> Tensor:
        is_own = torch.sub(own[:, None], clusters).eq_(0)  # of floats: booleans take three times as long
        return _squared(part, rows).add_(is_own, alpha=FARTHEST).amin(dim=1).clamp_(max=FARTHEST)

    parts = zip(rows.split(size), clusters.split(size), strict=True)
    nearest = joined((to_others(*part) for part in parts), len(rows)).sort().values
    return nearest[int((1 - PURITY) * len(nearest))].sqrt()


def _smallest_distance(labeled: Float[Tensor, "m l"]) -> float:
    """Between two labeled images that are no copies; `FIRST_RADIUS` where there are no two."""
    rows, least = labeled.double(), torch.inf
    for part in rows.split(rows_at_once(len(rows))):
        distances = torch.cdist(part, rows, compute_mode="donot_use_mm_for_euclid_dist")  # of copies exactly 0
        if (distances > COPY).any():
            least = min(least, float(distances[distances > COPY].min()))
    return least if least < torch.inf else FIRST_RADIUS


def _gaussian(squared: Float[Tensor, "r s"], *, radius: float) -> Float[Tensor, "r s"]:
    """exp(-|x - x'|^2 / radius^2)."""
    return squared.div_(-(radius**2)).clamp_(min=NOTHING).exp_()


def _squared(rows: Float[Tensor, "r l"], targets: Float[Tensor, "s l"]) -> Float[Tensor, "r s"]:
    """|x - x'|^2 of rows of unit length or of zeros.

    Doubling the few rows is exact, and spares a look at all products.
    """
    squared = ((-2 * rows) @ targets.T).add_(2)
    for zeros, of_zeros in ((_is_zero(rows), squared), (_is_zero(targets), squared.T)):
        if zeros.any():
            of_zeros[zeros] -= 1
    return squared.clamp_(min=0)


def _is_zero(rows: Float[Tensor, "n l"]) -> Bool[Tensor, " n"]:
    return ~rows.any(dim=1)


def _unit(rows: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
    return normalize(rows, dim=1)
