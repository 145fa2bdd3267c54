"""Pseudo-labels S: the label assumed for an unlabeled image, so that its loss gradient exists.

An estimator is a pure function of one pool batch and of the validation set; the registry names
them as `acquisition.pseudo_label` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import nearest, r_z


@dataclass(frozen=True)
class PoolBatch:
    """What is known of some pool images after their forward pass.

    `y` holds their true labels. Only estimators marked `sees_oracle` may read it.
    """

    logits: Float[Tensor, "n d"]
    z: Descriptors
    y: Int[Tensor, " n"]


@dataclass(frozen=True)
class Reference:
    """The whole labeled validation set D_v under the same weights."""

    z: Descriptors
    y: Int[Tensor, " m"]


Estimate = Callable[[PoolBatch, Reference], Tensor]


def true(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y: the method's limit, an ablation that no real pool allows (section 4.1, Fig. 4 c)."""
    return pool.y


def predicted(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y^ = arg max of the model's output."""
    return pool.logits.argmax(dim=1)


def joint(pool: PoolBatch, validation: Reference) -> Int[Tensor, " n"]:
    """S = y_v of the validation image with the largest R_z: p^(y, z) by its nearest neighbour."""
    return validation.y[nearest(pool.z, validation.z, kernel=r_z)]


@dataclass(frozen=True)
class PseudoLabel:
    """An estimator, what it is in one line, and whether it is an ablation that reads true labels.

    With `predicted_g_v` the validation gradients, too, are those of the predicted labels, and not
    of y_v: pool and validation are then compared under one rule (decision 006).
    """

    estimate: Estimate
    summary: str
    sees_oracle: bool = False
    predicted_g_v: bool = False


PSEUDO_LABELS: Mapping[str, PseudoLabel] = MappingProxyType(
    {
        "joint": PseudoLabel(joint, "label of the most similar validation image by R_z"),
        "predicted": PseudoLabel(predicted, "the model's own arg max", predicted_g_v=True),
        "true": PseudoLabel(true, "the true label: an upper limit, not a method", sees_oracle=True),
    }
)
