"""Predictions for validation images by models that were not trained on them, where training uses validation images.

A model makes no mistake on images that it was trained on, so that its own predictions would leave no targets.
"""

from collections.abc import Generator, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.batch_parts import WHOLE, BatchParts
from fkal.engine.head_training import LabeledRows, balanced_error, logits_of, penalty_path
from fkal.engine.losses import Loss
from fkal.engine.metering import Meter
from fkal.engine.outputs import logits
from fkal.engine.progress import Progress
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit

FOLDS = 5


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
        n_folds = int(fold.max()) + 1
        for k in range(n_folds):
            model = deepcopy(self.model)
            indices = torch.cat([labeled, self.validation[fold != k]])
            labels = torch.cat([y, y_v[fold != k]])
            draws = stream(seed, "fold", k)
            for _ in self._fit(model, indices, labels, draws):
                pass
            logits_of_fold = yield from self._logits(model, self.validation[fold == k])
            found[fold == k] = logits_of_fold.to(found)
            yield Progress(what, k + 1, n_folds, "folds")
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

    All heads have the penalty that is best over all folds together.
    """
    m = len(validation.y)
    by_penalty: dict[float, Tensor] = {}
    for k in range(int(fold.max()) + 1):
        held = (fold == k).to(validation.y.device)
        rows = LabeledRows(torch.cat([labeled.z, validation.z[~held]]), torch.cat([labeled.y, validation.y[~held]]))
        for fitted, weights in penalty_path(rows, loss, n_classes):
            logits = by_penalty.setdefault(fitted.penalty, weights.new_zeros(m, n_classes))
            logits[held] = logits_of(weights, validation.z[held])
    penalty = min(by_penalty, key=lambda each: balanced_error(by_penalty[each], validation.y))
    return CrossFitted(by_penalty[penalty].float(), penalty)


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
