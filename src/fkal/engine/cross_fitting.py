"""Predictions for validation images by models that were not trained on them, where training uses validation images.

A model makes no mistake on images that it was trained on, so that its own predictions would leave no targets.
"""

from collections.abc import Generator
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.engine.settings import TrainConfig
from fkal.engine.training import fit
from fkal.models.modes import evaluating

FOLDS = 5


@dataclass(frozen=True)
class CrossFit:
    """What the models of all folds share.

    `model` has the weights that each begins with, which must not have seen the validation images. `groups` has the
    group of each image of the dataset: images of one group are in one fold.
    """

    model: nn.Module
    images: ImageSet
    validation: Int[Tensor, " m"]
    config: TrainConfig
    batch_size: int
    meter: Meter
    groups: Int[Tensor, " n"] | None = None

    def logits(
        self, labeled: Int[Tensor, " l"], y: Int[Tensor, " l"], *, seed: int, what: str
    ) -> Generator[Progress, None, Float[Tensor, "m d"]]:
        """Of each validation image by the model that learned from the labeled images and all other folds.

        The order of the rows is that of `validation`. All draws come from the seed.
        """
        y_v = self.images.labels[self.validation]
        groups = None if self.groups is None else self.groups[self.validation]
        fold = folds(y_v, groups, stream(seed, "folds"))
        found = torch.zeros(len(y_v), len(self.images.classes), device=self.meter.device)
        n_folds = int(fold.max()) + 1
        for k in range(n_folds):
            model, others = deepcopy(self.model), self.validation[fold != k]
            indices, labels = torch.cat([labeled, others]), torch.cat([y, y_v[fold != k]])
            generator = stream(seed, "fold", k)
            for _ in fit(
                model, self.images, indices, labels, config=self.config, generator=generator, meter=self.meter
            ):
                pass
            found[fold == k] = self._logits(model, self.validation[fold == k]).to(found)
            yield Progress(what, k + 1, n_folds, "folds")
        return found

    @torch.no_grad()
    def _logits(self, model: nn.Module, indices: Int[Tensor, " k"]) -> Float[Tensor, "k d"]:
        parts = []
        with evaluating(model):
            for x in self.images.batches(indices.split(self.batch_size), device=self.meter.device):
                parts.append(model(x))
                self.meter.forward(len(x))
        return torch.cat(parts)


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
