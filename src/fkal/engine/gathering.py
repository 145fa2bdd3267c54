"""Gathering evidence: the expensive half of an acquisition, all of whose passes happen and are counted here."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor, nn

from fkal.acquisition.settings import EPIG_TARGETS
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Discrimination,
    Evidence,
    Features,
    FisherScores,
    LastLayer,
    Nothing,
    Outputs,
    Predictions,
    PredictiveInformation,
    Queried,
    Supervised,
    Uncertainty,
)
from fkal.core.kernels import R_ZG, Kernel
from fkal.core.labels import PSEUDO_LABELS, PseudoLabel
from fkal.core.pseudo_labels import PoolBatch, Reference
from fkal.core.views import View
from fkal.core.whitening import WHITENINGS
from fkal.data.images import ImageSet
from fkal.engine.describing import Batch, Describer, Keep, LabeledBy, Labeler, not_kept
from fkal.engine.metering import Meter
from fkal.engine.outputs import outputs
from fkal.engine.progress import Progress
from fkal.engine.sampling import predictive_information, sampled_uncertainty
from fkal.engine.settings import VaalConfig
from fkal.engine.vaal import discriminate
from fkal.engine.views import Perturbation, perturbations, perturbed_views, view_of
from fkal.models.head import HeadInput

Found = tuple[Evidence, Int[Tensor, " t"]]
"""The evidence, and the validation rows that are its targets (none for a method that has no targets)."""


@dataclass(frozen=True, kw_only=True)
class Gathering:
    """How evidence is gathered; a method reads what its evidence needs of it.

    `samples` is the paper's K: Monte Carlo passes of each model, and views an image.
    """

    taps: tuple[str, ...]
    batch_size: int
    pseudo_label: PseudoLabel = PSEUDO_LABELS["joint"]
    kernel: Kernel = R_ZG["product"]
    whitening: str = "none"
    samples: int = 128
    view_degrees: float = 5.0
    view_noise: float = 0.01
    vaal: VaalConfig = field(default_factory=VaalConfig)


@dataclass(frozen=True)
class Scene:
    """What an iteration gathers from: its models, and which images are open, labeled, validation.

    `members` are the models of an ensemble; what needs one model uses the first. Every draw comes
    from `generator`.
    """

    members: Sequence[nn.Module]
    images: ImageSet
    open_pool: Int[Tensor, " n"]
    labeled: Int[Tensor, " l"]
    validation: Int[Tensor, " m"]
    settings: Gathering
    generator: torch.Generator
    meter: Meter
    keep: Keep = not_kept

    @property
    def describer(self) -> Describer:
        settings = self.settings
        return Describer(self.members[0], self.images, settings.taps, settings.batch_size, self.meter, keep=self.keep)


def gather(scene: Scene, needs: type[Evidence]) -> Generator[Progress, None, Found]:
    """The evidence that a method needs, and the validation rows that are its targets."""
    return GATHERERS[needs](scene)


def target_rows(y_hat: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> Int[Tensor, " t"]:
    """Rows of the misclassified images; all rows if there is none.

    Where the model makes no mistake on the validation set, nothing says which part of it is far.
    """
    rows = (y_hat != y).nonzero()[:, 0]
    return rows if len(rows) else torch.arange(len(y), device=y.device)


def _nothing(scene: Scene) -> Generator[Progress, None, Found]:
    yield from ()
    return Nothing(len(scene.open_pool)), _no_targets()


def _features(scene: Scene) -> Generator[Progress, None, Found]:
    describe = partial(scene.describer.describe, labeler=_arg_max, labels="arg_max", with_grad=False)
    known = yield from describe(scene.validation, what="validation")
    pool = yield from describe(scene.open_pool, what="pool")
    rows = target_rows(known.y_hat, _true_labels(scene, scene.validation))
    return Features(pool.descriptors, known.descriptors[rows]), rows.cpu()


def _fisher_scores(scene: Scene) -> Generator[Progress, None, Found]:
    """g_v under y_v, or under the estimator's own label where it has one for validation images too (decision 006)."""
    estimator, y_v = _Estimator(scene), _true_labels(scene, scene.validation)

    def of_validation(batch: Batch) -> Tensor:
        if not scene.settings.pseudo_label.own_g_v:
            return _true_labels(scene, batch.indices)
        return estimator(batch, Reference(batch.z[:0], y_v[:0]))

    describe = partial(scene.describer.describe, with_grad=True)
    by: LabeledBy = "estimated" if scene.settings.pseudo_label.own_g_v else "true"
    known = yield from describe(scene.validation, of_validation, labels=by, what="validation")
    reference = Reference(known.descriptors, y_v, scene.settings.kernel)
    labeler, prior = yield from _labeler(scene, estimator, reference)
    pool = yield from describe(scene.open_pool, labeler, labels="estimated", what="pool")
    rows = target_rows(known.y_hat, y_v)
    whiten = WHITENINGS[scene.settings.whitening](known.descriptors)
    targets = whiten(known.descriptors[rows])
    return FisherScores(whiten(pool.descriptors), targets, pool.y, prior), rows.cpu()


def _labeler(
    scene: Scene, estimator: "_Estimator", reference: Reference
) -> Generator[Progress, None, tuple[Labeler, Tensor | None]]:
    """What labels a batch of the pool, and the whole pool's class frequencies where they are estimated."""
    label = scene.settings.pseudo_label
    if label.of_pool is None:
        return lambda batch: estimator(batch, reference), None
    describer = replace(scene.describer, grid=label.grid)
    describe = partial(describer.describe, labeler=_arg_max, labels="arg_max", with_grad=False)
    if label.grid > 1:
        known = yield from describe(scene.validation, what="validation, for the pool's labels")
        reference = replace(reference, z=known.descriptors)
    features = yield from describe(scene.open_pool, what="pool, for its labels")
    y, prior = label.of_pool(features.descriptors, reference, _true_labels(scene, scene.labeled))
    by_index = torch.full_like(scene.images.labels, -1)
    by_index[scene.open_pool] = y.to(by_index)
    return lambda batch: by_index[batch.indices].to(scene.meter.device), prior


def _uncertainty(scene: Scene) -> Generator[Progress, None, Found]:
    evidence = yield from sampled_uncertainty(
        scene.members,
        scene.images,
        scene.open_pool,
        k=scene.settings.samples,
        batch_size=scene.settings.batch_size,
        generator=scene.generator,
        meter=scene.meter,
    )
    return evidence, _no_targets()


def _coverage(scene: Scene) -> Generator[Progress, None, Found]:
    pool = yield from scene.describer.features(scene.open_pool, what="pool")
    if not len(scene.labeled):
        return Coverage(pool, pool[:0]), _no_targets()
    labeled = yield from scene.describer.features(scene.labeled, what="labeled images")
    return Coverage(pool, labeled), _no_targets()


def _discrimination(scene: Scene) -> Generator[Progress, None, Found]:
    evidence = yield from discriminate(
        scene.images,
        labeled=scene.labeled,
        open_pool=scene.open_pool,
        config=scene.settings.vaal,
        batch_size=scene.settings.batch_size,
        generator=scene.generator,
        meter=scene.meter,
    )
    return evidence, _no_targets()


def _predictions(scene: Scene) -> Generator[Progress, None, Found]:
    pool = yield from _outputs(scene, scene.open_pool, "pool")
    return Predictions(pool.logits), _no_targets()


def _last_layer(scene: Scene) -> Generator[Progress, None, Found]:
    pool = yield from _outputs(scene, scene.open_pool, "pool")
    return LastLayer(pool, HeadInput(scene.members[0]).weight.clone()), _no_targets()


def _supervised(scene: Scene) -> Generator[Progress, None, Found]:
    pool = yield from _outputs(scene, scene.open_pool, "pool")
    labeled = pool[:0]
    if len(scene.labeled):
        labeled = yield from _outputs(scene, scene.labeled, "labeled images")
    return Supervised(pool, labeled, _true_labels(scene, scene.labeled)), _no_targets()


def _calibrated(scene: Scene) -> Generator[Progress, None, Found]:
    known, _ = yield from _supervised(scene)
    assert isinstance(known, Supervised)
    validation = yield from _outputs(scene, scene.validation, "validation")
    y_v = _true_labels(scene, scene.validation)
    return Calibrated(known.pool, known.labeled, known.y, validation.logits, y_v), _no_targets()


def _queried(scene: Scene) -> Generator[Progress, None, Found]:
    validation = yield from _outputs(scene, scene.validation, "validation")
    pool = yield from _outputs(scene, scene.open_pool, "pool")
    rows = target_rows(validation.logits.argmax(dim=1), _true_labels(scene, scene.validation))
    return Queried(pool.features, validation.features[rows]), _no_targets()


def _predictive_information(scene: Scene) -> Generator[Progress, None, Found]:
    drawn = torch.randperm(len(scene.validation), generator=scene.generator)[:EPIG_TARGETS]
    evidence = yield from predictive_information(
        scene.members[0],
        scene.images,
        scene.open_pool,
        scene.validation[drawn],
        k=scene.settings.samples,
        batch_size=scene.settings.batch_size,
        generator=scene.generator,
        meter=scene.meter,
    )
    return evidence, _no_targets()


def _outputs(scene: Scene, indices: Int[Tensor, " n"], what: str) -> Generator[Progress, None, Outputs]:
    return outputs(
        scene.members[0],
        scene.images,
        indices,
        batch_size=scene.settings.batch_size,
        meter=scene.meter,
        what=what,
    )


GATHERERS: Mapping[type[Evidence], Callable[[Scene], Generator[Progress, None, Found]]] = MappingProxyType(
    {
        Nothing: _nothing,
        Features: _features,
        FisherScores: _fisher_scores,
        Uncertainty: _uncertainty,
        Coverage: _coverage,
        Discrimination: _discrimination,
        Predictions: _predictions,
        LastLayer: _last_layer,
        Supervised: _supervised,
        Calibrated: _calibrated,
        Queried: _queried,
        PredictiveInformation: _predictive_information,
    }
)


class _Estimator:
    """The pseudo-label of a batch, from the views that the estimator asks for; the same views for every batch."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._pseudo_label = scene.settings.pseudo_label
        self._drawn = _drawn_views(scene) if self._pseudo_label.views == "perturbed" else ()

    def __call__(self, batch: Batch, reference: Reference) -> Tensor:
        y = _true_labels(self._scene, batch.indices)
        return self._pseudo_label.estimate(PoolBatch(batch.logits, batch.z, y, self._views(batch.x)), reference)

    def _views(self, x: Tensor) -> "Sequence[View] | Generator[View]":
        model, taps, meter = self._scene.members[0], self._scene.settings.taps, self._scene.meter
        match self._pseudo_label.views:
            case "clean":
                return (view_of(model, x, taps, meter),)
            case "perturbed":
                return perturbed_views(model, x, taps, self._drawn, meter)
        return ()


def _drawn_views(scene: Scene) -> list[Perturbation]:
    settings = scene.settings
    return perturbations(
        settings.samples,
        scene.images.shape,
        degrees=settings.view_degrees,
        noise=settings.view_noise,
        generator=scene.generator,
    )


def _true_labels(scene: Scene, indices: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    return scene.images.labels[indices].to(scene.meter.device)


def _arg_max(batch: Batch) -> Tensor:
    return batch.logits.argmax(dim=1)


def _no_targets() -> Int[Tensor, " t"]:
    return torch.empty(0, dtype=torch.long)
