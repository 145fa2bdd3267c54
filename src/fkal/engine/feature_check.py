"""The feature check: can a linear head tell the classes by these embeddings? It asks validation images alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.engine.head_training import PENALTIES, ROUGH, LabeledRows, balanced_error, logits_of, penalty_path
from fkal.engine.losses import plain

FOLDS = 5
TELLS_CLASSES = 0.5
"""Below this balanced accuracy features hardly tell the classes: on GTSRB, with 56 % by all labels of the pool, no
method was reliably ahead of random."""


@dataclass(frozen=True)
class FeatureCheck:
    """Balanced accuracy over so many folds, as a fraction. None: a class has a single image, or a single group."""

    balanced_accuracy: float | None
    folds: int

    @property
    def tells_classes(self) -> bool:
        return self.balanced_accuracy is None or self.balanced_accuracy >= TELLS_CLASSES


def feature_check(
    validation: LabeledRows, generator: torch.Generator, groups: Int[Tensor, " m"] | None = None
) -> FeatureCheck:
    """Cross-validation of a linear head on the validation images.

    Args:
        validation: Embeddings of the validation images, and their labels.
        generator: Source of the folds.
        groups: The group of each image (a track, a patient); all images of a group are in one fold.

    Returns:
        The balanced accuracy, under the penalty that has the least error over all folds.
    """
    by_group = torch.arange(len(validation.y)) if groups is None else groups.unique(return_inverse=True)[1].cpu()
    y = validation.y.cpu()
    folds = min(FOLDS, _groups_of_rarest(y, by_group))
    if folds < 2:
        return FeatureCheck(None, folds)
    fold_of = folds_by_group(y, by_group, folds, generator).to(validation.z.device)
    n_classes = int(y.max()) + 1
    logits = torch.zeros(len(PENALTIES), len(y), n_classes, dtype=torch.float64, device=validation.z.device)
    for fold in range(folds):
        logits[:, fold_of == fold] = _by_penalty(validation, fold_of != fold, n_classes)
    errors = [balanced_error(each, validation.y) for each in logits]
    best = logits[errors.index(min(errors))]
    return FeatureCheck(_balanced_accuracy(best.argmax(dim=1), validation.y), folds)


def folds_by_group(
    y: Int[Tensor, " m"], groups: Int[Tensor, " m"], folds: int, generator: torch.Generator
) -> Int[Tensor, " m"]:
    """A fold for each image: classes are spread evenly, groups stay whole.

    Groups are dealt in a random order, each to the fold that has the fewest images of the group's class.
    """
    counts = torch.zeros(folds, int(y.max()) + 1, dtype=torch.long)
    fold_of_group = torch.zeros(int(groups.max()) + 1, dtype=torch.long)
    for group in torch.randperm(len(fold_of_group), generator=generator).tolist():
        members = y[groups == group].bincount(minlength=counts.shape[1])
        fold = int((counts[:, int(members.argmax())] * len(y) + counts.sum(dim=1)).argmin())
        counts[fold] += members
        fold_of_group[group] = fold
    return fold_of_group[groups]


def _groups_of_rarest(y: Int[Tensor, " m"], groups: Int[Tensor, " m"]) -> int:
    """The least number of groups that a class with images has."""
    pairs = torch.stack([y, groups], dim=1).unique(dim=0)
    counts = pairs[:, 0].bincount()
    return int(counts[counts > 0].min())


def _by_penalty(validation: LabeledRows, trained: Tensor, n_classes: int) -> Float[Tensor, "q f d"]:
    """Logits of the images that are not trained on, by heads under each penalty."""
    labeled = LabeledRows(validation.z[trained], validation.y[trained])
    path = penalty_path(labeled, plain, n_classes, tolerance=ROUGH)
    return torch.stack([logits_of(weights, validation.z[~trained]) for _, weights in path])


def _balanced_accuracy(y_hat: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> float:
    right, present = y[y_hat == y].bincount(minlength=int(y.max()) + 1), y.bincount()
    return float((right[present > 0] / present[present > 0]).mean())
