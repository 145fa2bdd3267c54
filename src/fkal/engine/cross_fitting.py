"""Predictions for validation images by models that were not trained on them, where training uses validation images.

A model makes no mistake on images that it was trained on, so that its own predictions would leave no targets.
"""

import math
from collections.abc import Generator, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.batch_parts import WHOLE, BatchParts
from fkal.engine.head_training import ROUGH, LabeledRows, balanced_error, logits_of, penalty_path
from fkal.engine.losses import Loss
from fkal.engine.metering import Meter
from fkal.engine.outputs import logits
from fkal.engine.progress import Progress
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit

FOLDS = 5
CLEARLY = 0.95
"""Of the error of a head of zeros: one that is smaller has learned to tell classes."""


@dataclass(frozen=True)
class CrossFitted:
    """Logits of each validation image by a model that was not trained on it; of a head, the best penalty as well."""

    logits: Float[Tensor, "m d"] | None = None
    penalty: float | None = None


@dataclass(frozen=True)
class CrossFit:
    """What the networks of all folds share.

    `model` has the weights that each begins with, which must not have seen the validation images; `fold` has the fold
    of each validation image.
    """

    model: nn.Module
    images: ImageSet
    validation: Int[Tensor, " m"]
    fold: Int[Tensor, " m"]
    config: TrainConfig
    batch_size: int
    meter: Meter
    parts: BatchParts = WHOLE

    def run(
        self, labeled: Int[Tensor, " l"], y: Int[Tensor, " l"], *, seed: int, what: str
    ) -> Generator[Progress, None, CrossFitted]:
        """Each fold by a network that learned from the labeled images and all other folds.

        All draws come from the seed.
        """
        y_v, fold = self.images.labels[self.validation], self.fold
        found = torch.zeros(len(y_v), len(self.images.classes), device=self.meter.device)
        n_folds, epochs = int(fold.max()) + 1, self.config.epochs
        for k in range(n_folds):
            model = deepcopy(self.model)
            indices = torch.cat([labeled, self.validation[fold != k]])
            labels = torch.cat([y, y_v[fold != k]])
            draws = stream(seed, "fold", k)
            for epoch, _ in enumerate(self._fit(model, indices, labels, draws), 1):
                yield Progress(what, k * epochs + epoch, n_folds * epochs, "epochs")
            logits_of_fold = yield from self._logits(model, self.validation[fold == k])
            found[fold == k] = logits_of_fold.to(found)
        return CrossFitted(found)

    def _fit(self, model: nn.Module, indices: Tensor, labels: Tensor, draws: torch.Generator) -> Iterator[float]:
        return fit(
            model,
            self.images,
            indices,
            labels,
            config=self.config,
            generator=draws,
            meter=self.meter,
            parts=self.parts,
        )

    def _logits(self, model: nn.Module, indices: Int[Tensor, " k"]) -> Generator[Progress, None, Float[Tensor, "k d"]]:
        return logits(
            model,
            self.images,
            indices,
            batch_size=self.batch_size,
            meter=self.meter,
            what="a fold",
            processes=self.parts.processes,
            to_all=True,
        )


def cross_fitted_head(
    labeled: LabeledRows, validation: LabeledRows, fold: Int[Tensor, " m"], loss: Loss, n_classes: int
) -> CrossFitted:
    """Each fold by a head that learned from the labeled rows and all other folds.

    All heads have the penalty that is best over all folds together. Smaller ones are not tried once the error rises
    from one that is clearly below that of zeros; before, it may rise and fall again, as where a frequent class is
    learned first. Heads are trained to `ROUGH`: they tell what is mistaken and which penalty is best, and are not kept.
    """
    held = [(fold == k).to(validation.y.device) for k in range(int(fold.max()) + 1)]
    paths = [penalty_path(_beside(labeled, validation, ~rows), loss, n_classes, tolerance=ROUGH) for rows in held]
    best: tuple[float, CrossFitted] | None = None
    for fits in zip(*paths, strict=True):
        logits = torch.zeros(len(validation.y), n_classes, dtype=torch.float64, device=validation.y.device)
        for rows, (_, weights) in zip(held, fits, strict=True):
            logits[rows] = logits_of(weights, validation.z[rows])
        error = balanced_error(logits, validation.y)
        if best is None or error < best[0]:
            best = error, CrossFitted(logits.float(), fits[0][0].penalty)
        elif best[0] < CLEARLY * math.log(n_classes):
            break
    assert best is not None
    return best[1]


def _beside(labeled: LabeledRows, validation: LabeledRows, kept: Tensor) -> LabeledRows:
    """The labeled rows and those of validation that are kept."""
    return LabeledRows(torch.cat([labeled.z, validation.z[kept]]), torch.cat([labeled.y, validation.y[kept]]))


def folds(labels: Int[Tensor, " m"], groups: Int[Tensor, " m"] | None, generator: torch.Generator) -> Int[Tensor, " m"]:
    """The fold of each image, from 0 up to FOLDS - 1: classes spread evenly, no group split.

    A group goes by the class of one of its images. Units (groups, or single images) are sorted by class and dealt in
    turn, so that folds differ by one unit at most. Raises ValueError for fewer than two units.
    """
    units = torch.arange(len(labels)) if groups is None else groups.unique(return_inverse=True)[1]
    n_units = int(units.max()) + 1
    if n_units < 2:
        raise ValueError("all validation images are of one group, and cross-fitting needs two; bring another group")
    class_of = torch.zeros(n_units, dtype=torch.long).scatter_(0, units, labels)
    shuffled = torch.randperm(n_units, generator=generator)
    by_class = shuffled[class_of[shuffled].argsort(stable=True)]
    fold = torch.empty(n_units, dtype=torch.long)
    fold[by_class] = torch.arange(n_units) % FOLDS
    return fold[units]
