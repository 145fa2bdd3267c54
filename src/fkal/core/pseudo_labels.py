"""Pseudo-labels S: the label assumed for an unlabeled image, so that its loss gradient exists.

An estimator is a pure function of one pool batch and of the validation set; the registry (`fkal.core.labels`) names
them as `acquisition.pseudo_label` does.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.information import information
from fkal.core.kernels import R_ZG, Kernel, closest, r_z
from fkal.core.label_shift import estimated_prior, shifted
from fkal.core.posterior import Logistic, NearestNeighbours, opinion_pool
from fkal.core.row_stream import PoolDescriptors
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
    """S = y: the method's limit, an ablation that no real pool allows (section 4.1, Fig. 4 c).

    Args:
        pool: What is known of n pool images.
        validation: The labeled validation set.

    Returns:
        One label per pool image.
    """
    return pool.y


def predicted(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y^ = arg max of the model's output.

    Args:
        pool: What is known of n pool images.
        validation: The labeled validation set.

    Returns:
        One label per pool image.

    Example:
        >>> z = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0]])})
        >>> pool = PoolBatch(torch.tensor([[0.0, 5.0]]), z, torch.tensor([0]))
        >>> predicted(pool, Reference(z, torch.tensor([1]))).tolist()
        [1]
    """
    return pool.logits.argmax(dim=1)


def joint(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y_v of the validation image with the largest R_z: p^(y, z) by its nearest neighbour.

    Args:
        pool: What is known of n pool images.
        validation: The labeled validation set.

    Returns:
        One label per pool image.

    Example:
        >>> z = Descriptors.of({"fc1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])})
        >>> pool = PoolBatch(torch.zeros(1, 2), z[1:], torch.tensor([0]))
        >>> joint(pool, Reference(z, torch.tensor([0, 1]))).tolist()
        [1]
    """
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

    Args:
        pool: What is known of n pool images.
        validation: The labeled validation set.

    Returns:
        One label per pool image.
    """
    return reduce(torch.add, (_trace_of(view) for view in pool.views)).argmax(dim=0)


def mutual_information(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = arg max over d of I(z; g(d)) under a Gaussian model, taps being independent (section 3.3).

    I = 0.5 log(|C_zz| |C_gg| / |C_zg,zg|) with the covariances over the views (decision 007).

    Args:
        pool: What is known of n pool images.
        validation: The labeled validation set.

    Returns:
        One label per pool image.
    """
    return information(pool.views, diagonal=False).argmax(dim=0)


def mutual_information_diagonal(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """The same from the diagonals of C_zz, C_gg and C_zg alone."""
    return information(pool.views, diagonal=True).argmax(dim=0)


class PoolLabels(NamedTuple):
    """Labels of the open pool, the whole pool's class frequencies as they were estimated, and the class probabilities
    under these, whose most probable class is the label."""

    y: Int[Tensor, " n"]
    prior: Float[Tensor, " d"]
    posterior: Float[Tensor, "n d"]


EstimatePool = Callable[[PoolDescriptors, Reference, Tensor], PoolLabels]
"""From the open pool, the validation set, and the labels of those images that have left the pool."""


def joint_shift(pool: PoolDescriptors, validation: Reference, labeled: Int[Tensor, " b"]) -> PoolLabels:
    """S = arg max over y of p_v(y|z) w(y): `joint` without its assumption that p(y|z) = p_v(y|z).

    In a biased pool p(z|y) is that of the validation set, but p(y) is not. So almost every pool image that a posterior
    learned from D_v calls rare is not (`fkal.core.label_shift`). p_v(y|z) is the opinion pool of nearest neighbours
    and of a logistic regression on z.

    The frequencies are those of the pool before any image was labeled. The images that are still open were left by a
    choice that looks at z, so their p(z|y) is no longer that of D_v, while their p(y|z) is still the whole pool's.

    Args:
        pool: Descriptors of the open pool, in memory or streamed.
        validation: The labeled validation set.
        labeled: Labels of the images that have left the pool.

    Returns:
        One label per open image, the class frequencies of the whole pool, and the class probabilities behind the label.
    """
    learned = [estimator.fitted(validation.z, validation.y) for estimator in (NearestNeighbours, Logistic)]
    p = opinion_pool(learned, pool)
    prior = estimated_prior(p, labeled)
    posterior = shifted(p, prior)
    return PoolLabels(posterior.argmax(dim=1), prior, posterior)


def joint_shift_of_batch(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """`joint_shift` of a batch that is taken for the whole pool, none of which is labeled."""
    return joint_shift(pool.z, validation, validation.y[:0]).y


def _trace_of(view: View) -> Float[Tensor, "d n"]:
    return reduce(torch.add, (view.trace(tap) for tap in view.z))
