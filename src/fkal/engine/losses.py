"""Training losses: pure functions of logits, labels and the number of labeled images of each class.

A class without a labeled image is in `counts` as 0. All three are in nats, and equal where every class has the same
number of labels.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits, labels, labeled images of each class) -> the mean loss of the batch."""


def plain(logits: Float[Tensor, "n d"], labels: Int[Tensor, " n"], counts: Int[Tensor, " d"]) -> Float[Tensor, ""]:
    """The mean cross-entropy; `counts` have no part in it."""
    return F.cross_entropy(logits, labels)


def class_balanced(
    logits: Float[Tensor, "n d"], labels: Int[Tensor, " n"], counts: Int[Tensor, " d"]
) -> Float[Tensor, ""]:
    """The cross-entropy with every class at the same weight, however many labels it has.

    The weights have mean 1 over the labeled images. The sum is divided by the number of images and not by their
    weights, so the mean over an epoch's batches is the loss of the whole set.
    """
    by_image = F.cross_entropy(logits, labels, reduction="none")
    return (by_image * class_weights(counts).to(logits)[labels]).mean()


def balanced_softmax(
    logits: Float[Tensor, "n d"], labels: Int[Tensor, " n"], counts: Int[Tensor, " d"]
) -> Float[Tensor, ""]:
    """The cross-entropy of logits + log counts; the bare logits then predict as if classes were equally frequent.

    Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, eq. 4. A class without a label
    counts as if it had one: with log 0 its logit would never be trained, and images of other classes would be taken
    for it.
    """
    return F.cross_entropy(logits + counts.clamp(min=1).to(logits).log(), labels)


def class_weights(counts: Int[Tensor, " d"]) -> Float[Tensor, " d"]:
    """n / (classes with labels * counts), in float64; 0 for a class without labels."""
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts.clamp(min=1).double())
    return torch.where(present, weights, 0.0)


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {"plain": plain, "class_balanced": class_balanced, "balanced_softmax": balanced_softmax}
)
"""By the value of `train.loss`."""
