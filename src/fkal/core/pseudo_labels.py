"""Pseudo-labels S: the label assumed for an unlabeled image, so that its loss gradient exists.

An estimator is a pure function of one pool batch and of the validation set; the registry names
them as `acquisition.pseudo_label` does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.information import information
from fkal.core.kernels import R_ZG, Kernel, closest, r_z
from fkal.core.label_shift import estimated_prior, shifted
from fkal.core.posterior import Logistic, NearestNeighbours, opinion_pool
from fkal.core.views import View


@dataclass(frozen=True)
class PoolBatch:
    """What is known of some pool images (or validation images, for `own_g_v`) after their forward pass.

    `y` holds their true labels. Only estimators marked `sees_oracle` may read it. `views` are made
    as they are asked for, of the kind that the estimator names.
    """

    logits: Float[Tensor, "n d"]
    z: Descriptors
    y: Int[Tensor, " n"]
    views: Iterable[View] = ()


@dataclass(frozen=True)
class Reference:
    """The whole labeled validation set D_v under the same weights, and the kernel that compares it with the pool.

    `z` holds gradients g_v (under y_v) too, where the method has gathered them.
    """

    z: Descriptors
    y: Int[Tensor, " m"]
    kernel: Kernel = R_ZG["product"]


Estimate = Callable[[PoolBatch, Reference], Tensor]


def true(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y: the method's limit, an ablation that no real pool allows (section 4.1, Fig. 4 c)."""
    return pool.y


def predicted(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y^ = arg max of the model's output."""
    return pool.logits.argmax(dim=1)


def joint(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y_v of the validation image with the largest R_z: p^(y, z) by its nearest neighbour."""
    return validation.y[closest(pool.z, validation.z, kernel=r_z).rows]


def joint_zg(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y_v of the validation image with the largest R_zg, p^(y, z, g) by its nearest neighbour.

    g of a pool image exists under a label alone, so each validation image is compared with the
    pool image's g under that validation image's own label: the gradients of all d logits of a pool image.
    """
    (view,) = pool.views
    scores = torch.full_like(view.p, -torch.inf)
    scores_of = {tap: view.fisher_scores(tap).to(z.dtype) for tap, z in view.z.items()}
    for d in validation.y.unique().tolist():
        # the sign of a loss gradient, as those of the validation images have it
        under_d = Descriptors.of(view.z, {tap: -scores_of[tap][d] for tap in view.z})
        alike = validation.z[(validation.y == d).nonzero()[:, 0]]
        scores[:, d] = closest(under_d, alike, kernel=validation.kernel).scores
    return scores.argmax(dim=1)


def trace(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = arg max over d of tr(C_zg(d)): sum over taps j and views k of z_k . g_k(d) (section 3.3).

    With g as the Fisher score, the gradient of the log-likelihood, and z and g as they are before pooling:
    the product of two averages is not the average of the products (decision 007).
    """
    return reduce(torch.add, (_trace_of(view) for view in pool.views)).argmax(dim=0)


def mutual_information(pool: PoolBatch, validation: Reference, *, diagonal: bool = False) -> Int[Tensor, " n"]:
    """S = arg max over d of I(z; g(d)) under a Gaussian model, taps being independent (section 3.3).

    I = 0.5 log(|C_zz| |C_gg| / |C_zg,zg|) with the covariances over the views (decision 007);
    `diagonal` keeps the diagonals of C_zz, C_gg and C_zg alone.
    """
    return information(pool.views, diagonal=diagonal).argmax(dim=0)


class PoolLabels(NamedTuple):
    """Labels of the open pool, and the whole pool's class frequencies as they were estimated."""

    y: Int[Tensor, " n"]
    prior: Float[Tensor, " d"]


EstimatePool = Callable[[Descriptors, Reference, Tensor], PoolLabels]
"""From the open pool, the validation set, and the labels of those images that have left the pool."""


def joint_shift(pool: Descriptors, validation: Reference, labeled: Int[Tensor, " b"]) -> PoolLabels:
    """S = arg max over y of p_v(y|z) w(y): `joint` without its assumption that p(y|z) = p_v(y|z).

    Of a biased pool p(z|y) is that of the validation set, but p(y) is not, so almost every pool image that a posterior
    learned from D_v calls rare is not (`fkal.core.label_shift`). p_v(y|z) is the opinion pool of nearest neighbours
    and of a logistic regression on z.

    The frequencies are those of the pool as it was before any image was labeled: what is still open was left by a
    choice that looks at z, so its p(z|y) is no longer that of D_v, while its p(y|z) is still the whole pool's.
    """
    learned = [estimator.fitted(validation.z, validation.y) for estimator in (NearestNeighbours, Logistic)]
    p = opinion_pool(learned, pool)
    prior = estimated_prior(p, labeled)
    return PoolLabels(shifted(p, prior).argmax(dim=1), prior)


def _of_whole(pool: PoolBatch, validation: Reference, *, estimate: EstimatePool) -> Int[Tensor, " n"]:
    return estimate(pool.z, validation, validation.y[:0]).y


def _trace_of(view: View) -> Float[Tensor, "d n"]:
    return reduce(torch.add, (view.trace(tap) for tap in view.z))


@dataclass(frozen=True)
class PseudoLabel:
    """An estimator, what it is in one line, and what it asks of the engine.

    `sees_oracle` marks an ablation that reads true labels. With `own_g_v` the validation gradients,
    too, are taken under the estimator's label, and not under y_v, so that pool and validation are
    compared under one rule (decision 006); it then reads no reference. `views` says what a batch
    has to offer: `none`, the images as they `clean` are (one view), or k `perturbed` ones. `by_kernel`: it compares
    by the reference's kernel, so that its labels depend on how R_z and R_g meet. An estimator with `of_pool`
    looks at all open images at once, for which they are described twice; asked for a batch, it takes it for the pool.
    With `grid` > 1 that first description, and one of D_v beside it, averages feature maps in `grid` x `grid` fields
    (where no tap returns maps, it is what it is with 1); the estimate itself takes z as it is.
    """

    estimate: Estimate
    summary: str
    sees_oracle: bool = False
    own_g_v: bool = False
    views: Literal["none", "clean", "perturbed"] = "none"
    by_kernel: bool = False
    of_pool: EstimatePool | None = None
    grid: int = 1

    @property
    def passes(self) -> str:
        """By what name the passes that it takes go."""
        if self.of_pool is None:
            return self.views
        return "pool" if self.grid == 1 else "pool and validation"


PSEUDO_LABELS: Mapping[str, PseudoLabel] = MappingProxyType(
    {
        "joint": PseudoLabel(joint, "label of the most similar validation image by R_z"),
        "joint_shift": PseudoLabel(
            partial(_of_whole, estimate=joint_shift),
            "the most probable label, by validation images and an estimate of the pool's class frequencies",
            of_pool=joint_shift,
        ),
        "joint_shift_grid": PseudoLabel(
            partial(_of_whole, estimate=joint_shift),
            "joint_shift by features averaged in 2 x 2 fields of each map instead of over all of it",
            of_pool=joint_shift,
            grid=2,
        ),
        "joint_zg": PseudoLabel(
            joint_zg, "label of the most similar validation image by R_zg", views="clean", by_kernel=True
        ),
        "predicted": PseudoLabel(predicted, "the model's own arg max", own_g_v=True),
        "trace": PseudoLabel(
            trace, "class with the largest tr(C_zg) over K Monte Carlo views", own_g_v=True, views="perturbed"
        ),
        "mutual_information": PseudoLabel(
            mutual_information,
            "class with the largest I(z; g) over K Monte Carlo views",
            own_g_v=True,
            views="perturbed",
        ),
        "mutual_information_diagonal": PseudoLabel(
            partial(mutual_information, diagonal=True),
            "the same from the diagonals alone",
            own_g_v=True,
            views="perturbed",
        ),
        "true": PseudoLabel(true, "the true label: an upper limit, not a method", sees_oracle=True),
    }
)
