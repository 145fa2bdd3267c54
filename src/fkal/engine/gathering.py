"""Gathering evidence: the expensive half of an acquisition, all of whose passes happen and are counted here."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fkal.acquisition.settings import EPIG_TARGETS, AcquisitionConfig
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
    PoolOutputs,
    Posteriors,
    Predictions,
    PredictiveInformation,
    Queried,
    Revealed,
    Supervised,
    Uncertainty,
    WeighedPosteriors,
    WeighedScores,
)
from fkal.core.kernels import R_ZG, Kernel
from fkal.core.labels import PSEUDO_LABELS, PseudoLabel
from fkal.core.precision_names import Precision
from fkal.core.pseudo_labels import PoolBatch, PoolLabels, Reference
from fkal.core.row_stream import PoolDescriptors
from fkal.core.softmax import margin, wrongness
from fkal.core.views import View
from fkal.core.whitening import WHITENINGS, Whiten
from fkal.data.images import ImageSet
from fkal.engine.describing import Batch, Described, Describer, DescriptorCache, LabeledBy, Labeler
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.outputs import logits, outputs, pool_outputs
from fkal.engine.precision import exact
from fkal.engine.processes import ALONE, Processes
from fkal.engine.progress import Progress
from fkal.engine.sampling import predictive_information, sampled_uncertainty
from fkal.engine.settings import VaalConfig
from fkal.engine.vaal import discriminate
from fkal.engine.views import Perturbation, perturbations, perturbed_views, view_of
from fkal.models.head import HeadInput
from fkal.models.settings import TokenRule

EvidenceAndTargets = tuple[Evidence, Int[Tensor, " t"]]
"""The evidence, and the validation rows that are its targets (none for a method that has no targets)."""


@dataclass(frozen=True)
class EvidenceConfig:
    """The settings that gathering reads, of which each kind of evidence needs some: the acquisition's and VAAL's.

    Passes over the pool compute in the `precision`. Under autocast those over other images, which are few, stay exact.
    """

    acquisition: AcquisitionConfig
    vaal: VaalConfig = field(default_factory=VaalConfig)
    tokens: TokenRule | None = None
    precision: Precision | None = None

    @property
    def pseudo_label(self) -> PseudoLabel:
        return PSEUDO_LABELS[self.acquisition.pseudo_label]

    @property
    def kernel(self) -> Kernel:
        return R_ZG[self.acquisition.combine]


@dataclass(frozen=True)
class RoundContext:
    """What a round gathers from: its models, and which images are open, labeled (with labels `y`), validation.

    `members` are the models of an ensemble; what needs one model uses the first. Every draw comes
    from `generator`. An `untrained` model has no opinion, so no mistakes either: all validation images are targets.
    `cross_fitted` has logits of the validation images where the model was trained on these; which of them are
    misclassified then goes by it. Rows of the pool that would take more memory than the `bound` are streamed.
    Several `processes` share the passes: the first one has the rows of the pool, all have those of other images.
    """

    members: Sequence[nn.Module]
    images: ImageSet
    open_pool: Int[Tensor, " n"]
    labeled: Int[Tensor, " l"]
    y: Int[Tensor, " l"]
    validation: Int[Tensor, " m"]
    config: EvidenceConfig
    generator: torch.Generator
    meter: Meter
    cache: DescriptorCache | None = None
    untrained: bool = False
    cross_fitted: Float[Tensor, "m d"] | None = None
    bound: MemoryBound = UNBOUNDED
    processes: Processes = ALONE

    @property
    def settings(self) -> AcquisitionConfig:
        return self.config.acquisition

    @property
    def describer(self) -> Describer:
        settings = self.settings
        return Describer(
            self.members[0],
            self.images,
            settings.taps,
            settings.batch_size,
            self.meter,
            cache=self.cache,
            tokens=self.config.tokens,
            precision=exact(self.config.precision),
            processes=self.processes,
        )

    @property
    def pool_describer(self) -> Describer:
        """That of the open pool, whose rows are streamed beyond the bound; the first process alone has them."""
        return replace(self.describer, bound=self.bound, precision=self.config.precision, to_all=False)


def gather(context: RoundContext, needs: type[Evidence]) -> Generator[Progress, None, EvidenceAndTargets]:
    """The evidence that a method needs, and the validation rows that are its targets.

    Of several processes the first one has it; what the others have of it counts for nothing.
    """
    if needs not in DRAWN_IN_ORDER or context.processes.count == 1:
        return GATHERERS[needs](context)
    return GATHERERS[needs](replace(context, processes=ALONE)) if context.processes.leads else _nothing(context)


def target_rows(y_hat: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> Int[Tensor, " t"]:
    """Rows of the misclassified images; all rows if there is none.

    Where the model makes no mistake on the validation set, nothing says which part of it is far.
    """
    rows = (y_hat != y).nonzero()[:, 0]
    return rows if len(rows) else torch.arange(len(y), device=y.device)


def _rows_of_targets(context: RoundContext, y_hat: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> Int[Tensor, " t"]:
    """Of the misclassified validation images; `y_hat` is the model's own prediction, which counts unless it learned
    from these images."""
    if context.untrained:
        return torch.arange(len(y), device=y.device)
    if context.cross_fitted is not None:
        y_hat = context.cross_fitted.argmax(dim=1).to(y_hat)
    return target_rows(y_hat, y)


def _nothing(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    yield from ()
    return Nothing(len(context.open_pool)), _no_targets()


def _features(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    known = yield from _z(context.describer, context.validation, "validation")
    pool = yield from _z(context.pool_describer, context.open_pool, "pool")
    rows = _rows_of_targets(context, known.y_hat, _true_labels(context, context.validation))
    return Features(pool.descriptors, known.in_memory[rows]), rows.cpu()


def _z(describer: Describer, indices: Int[Tensor, " n"], what: str) -> Generator[Progress, None, Described]:
    """Features alone, which no label enters."""
    return describer.describe(indices, _arg_max, labels="arg_max", with_grad=False, what=what)


def _fisher_scores(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    scored = yield from _scored(context)
    rows = _rows_of_targets(context, scored.known.y_hat, scored.y_v)
    return FisherScores(**scored.for_targets(rows)), rows.cpu()


def _weighed_scores(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    """A model that learned from no label weighs nothing; of validation images that it learned from, others weigh."""
    scored = yield from _scored(context, with_logits=True)
    y_v, known, pool = scored.y_v, scored.known, scored.pool
    rows = torch.arange(len(y_v), device=y_v.device)
    weights, of_pool = torch.ones(len(y_v), dtype=torch.float64, device=y_v.device), None
    if len(context.labeled):
        assert known.logits is not None and pool.logits is not None
        logits = known.logits if context.cross_fitted is None else context.cross_fitted.to(known.logits)
        weights, of_pool = wrongness(logits, y_v), pool.logits
    return WeighedScores(**scored.for_targets(rows), y_t=y_v, weights=weights, logits=of_pool), rows.cpu()


@dataclass(frozen=True)
class _Scored:
    """z and g of validation and pool images, the former with their classes, the latter under guessed labels."""

    known: Described
    pool: Described
    y_v: Int[Tensor, " m"]
    prior: Float[Tensor, " d"] | None
    whiten: Whiten

    def for_targets(self, rows: Int[Tensor, " t"]) -> dict[str, Any]:
        """The fields of `FisherScores`, by the validation images of these rows."""
        return {
            "pool": self.whiten(self.pool.descriptors),
            "targets": self.whiten(self.known.in_memory[rows]),
            "pseudo_labels": self.pool.y,
            "prior": self.prior,
            "whiten": self.whiten,
        }


def _scored(context: RoundContext, *, with_logits: bool = False) -> Generator[Progress, None, _Scored]:
    """g_v under y_v, or under the estimator's own label where it has one for validation images too (decision 006)."""
    estimator, y_v = _Estimator(context), _true_labels(context, context.validation)

    def of_validation(batch: Batch) -> Tensor:
        if not context.config.pseudo_label.own_g_v:
            return _true_labels(context, batch.indices)
        return estimator(batch, Reference(batch.z[:0], y_v[:0]))

    by: LabeledBy = "estimated" if context.config.pseudo_label.own_g_v else "true"
    known = yield from context.describer.describe(
        context.validation, of_validation, labels=by, with_grad=True, with_logits=with_logits, what="validation"
    )
    reference = Reference(known.in_memory, y_v, context.config.kernel)
    labeler, prior = yield from _labeler(context, estimator, reference)
    pool = yield from context.pool_describer.describe(
        context.open_pool, labeler, labels="estimated", with_grad=True, with_logits=with_logits, what="pool"
    )
    return _Scored(known, pool, y_v, prior, WHITENINGS[context.settings.whitening](known.in_memory))


def _labeler(
    context: RoundContext, estimator: "_Estimator", reference: Reference
) -> Generator[Progress, None, tuple[Labeler, Tensor | None]]:
    """What labels a batch of the pool, and the whole pool's class frequencies where they are estimated."""
    label = context.config.pseudo_label
    if label.of_pool is None:
        return lambda batch: estimator(batch, reference), None
    labels = yield from _pool_labels(context, reference)
    by_index = torch.full_like(context.images.labels, -1)
    by_index[context.open_pool] = labels.y.to(by_index)
    return lambda batch: by_index[batch.indices].to(context.meter.device), labels.prior


def _pool_labels(
    context: RoundContext, reference: Reference, features: PoolDescriptors | None = None
) -> Generator[Progress, None, PoolLabels]:
    """The whole pool's, by its `features` where these are at hand and the estimator asks for no others."""
    label, processes = context.config.pseudo_label, context.processes
    assert label.of_pool is not None
    if label.grid > 1:
        describer = replace(context.describer, grid=label.grid)
        known = yield from _z(describer, context.validation, "validation, for the pool's labels")
        reference = replace(reference, z=known.in_memory)
    if label.grid > 1 or features is None:
        describer = replace(context.pool_describer, grid=label.grid)
        pool = yield from _z(describer, context.open_pool, "pool, for its labels")
        features = pool.descriptors
    if not processes.leads:
        none = torch.empty(0)
        return processes.from_first(PoolLabels(none, none, none))
    found = label.of_pool(features, reference, context.y.to(context.meter.device))
    processes.from_first(PoolLabels(found.y.cpu(), found.prior.cpu(), found.posterior[:0].cpu()))
    return found


def _posteriors(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    guessed = yield from _guessed(context)
    rows = _rows_of_targets(context, guessed.known.y_hat, guessed.known.y)
    return guessed.of_targets(rows), rows.cpu()


def _weighed_posteriors(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    """A model that learned from no label weighs nothing; of validation images that it learned from, others weigh."""
    guessed = yield from _guessed(context)
    known, pool = guessed.known, guessed.pool
    rows = torch.arange(len(known.y), device=known.y.device)
    seen = guessed.of_targets(rows)
    weights, doubt = (torch.ones(len(part.y), dtype=torch.float64, device=rows.device) for part in (known, pool))
    labeled, y, labeled_doubt, of_pool = seen.pool[:0], known.y[:0], doubt[:0], None
    if len(context.labeled):
        describe = partial(context.describer.describe, labeler=_arg_max, labels="arg_max", with_grad=False)
        described = yield from describe(context.labeled, what="labeled images", with_logits=True)
        labeled, y = guessed.whiten(described.in_memory), context.y.to(known.y)
        assert known.logits is not None and pool.logits is not None and described.logits is not None
        logits = known.logits if context.cross_fitted is None else context.cross_fitted.to(known.logits)
        weights, doubt, labeled_doubt = wrongness(logits, known.y), margin(pool.logits), margin(described.logits)
        of_pool = pool.logits
    return WeighedPosteriors(
        **vars(seen), weights=weights, doubt=doubt, labeled=labeled, y=y, labeled_doubt=labeled_doubt, logits=of_pool
    ), rows.cpu()


@dataclass(frozen=True)
class _Guessed:
    """What validation and pool images are, and the pool's labels with their probabilities."""

    known: Described
    pool: Described
    labels: Int[Tensor, " n"]
    posterior: Float[Tensor, "n d"]
    prior: Float[Tensor, " d"] | None
    whiten: Whiten

    def of_targets(self, rows: Int[Tensor, " t"]) -> Posteriors:
        known, pool = self.known.in_memory.features, self.pool.descriptors.features
        dtype = next(iter(pool.z.values())).dtype
        return Posteriors(
            self.whiten(pool),
            self.whiten(known[rows]),
            self.known.y[rows],
            self.posterior.to(pool.device, dtype),
            self.labels,
            self.prior,
            whiten=self.whiten,
        )


def _guessed(context: RoundContext) -> Generator[Progress, None, _Guessed]:
    """No gradient is taken, but for labels that compare by it."""
    estimator, label = _Estimator(context), context.config.pseudo_label

    def of_validation(batch: Batch) -> Tensor:
        return _true_labels(context, batch.indices)

    known = yield from context.describer.describe(
        context.validation,
        of_validation,
        labels="true",
        with_grad=label.by_kernel,
        with_logits=True,
        what="validation",
    )
    reference = Reference(known.in_memory, known.y, context.config.kernel)
    whiten = WHITENINGS[context.settings.whitening](known.in_memory.features)
    describe_pool = partial(
        context.pool_describer.describe, context.open_pool, with_grad=False, with_logits=True, what="pool"
    )
    if label.of_pool is None:
        pool = yield from describe_pool(labeler=lambda batch: estimator(batch, reference), labels="estimated")
        assert pool.logits is not None
        certain = one_hot(pool.y, pool.logits.shape[1]).to(pool.logits)
        posterior = pool.logits.double().softmax(dim=1) if label.by_softmax else certain
        return _Guessed(known, pool, pool.y, posterior, None, whiten)
    pool = yield from describe_pool(labeler=_arg_max, labels="arg_max")
    found = yield from _pool_labels(context, reference, pool.descriptors)
    return _Guessed(known, pool, found.y, found.posterior, found.prior, whiten)


def _uncertainty(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    evidence = yield from sampled_uncertainty(
        context.members,
        context.images,
        context.open_pool,
        k=context.settings.samples,
        batch_size=context.settings.batch_size,
        generator=context.generator,
        meter=context.meter,
    )
    return evidence, _no_targets()


def _coverage(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    pool = yield from context.pool_describer.features(context.open_pool, what="pool")
    if not len(context.labeled):
        return Coverage(pool, pool[:0]), _no_targets()
    labeled = yield from context.describer.features(context.labeled, what="labeled images")
    return Coverage(pool, labeled[:]), _no_targets()


def _discrimination(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    evidence = yield from discriminate(
        context.images,
        labeled=context.labeled,
        open_pool=context.open_pool,
        config=context.config.vaal,
        batch_size=context.settings.batch_size,
        generator=context.generator,
        meter=context.meter,
    )
    return evidence, _no_targets()


def _predictions(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    pool = yield from logits_of(context, context.open_pool, "pool")
    return Predictions(pool), _no_targets()


def logits_of(
    context: RoundContext, indices: Int[Tensor, " n"], what: str
) -> Generator[Progress, None, Float[Tensor, "n d"]]:
    """In the context's precision."""
    return logits(
        context.members[0],
        context.images,
        indices,
        batch_size=context.settings.batch_size,
        meter=context.meter,
        what=what,
        precision=context.config.precision,
        processes=context.processes,
    )


def _last_layer(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    pool = yield from _pool_outputs(context)
    return LastLayer(pool, HeadInput(context.members[0]).weight.clone()), _no_targets()


def _supervised(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    pool = yield from _pool_outputs(context)
    labeled = yield from _labeled_outputs(context, pool)
    return Supervised(pool, labeled, context.y.to(context.meter.device)), _no_targets()


def _calibrated(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    known, _ = yield from _supervised(context)
    assert isinstance(known, Supervised)
    validation = yield from outputs_of(context, context.validation, "validation")
    y_v = _true_labels(context, context.validation)
    logits = validation.logits if context.cross_fitted is None else context.cross_fitted.to(validation.logits)
    return Calibrated(known.pool, known.labeled, known.y, logits, y_v), _no_targets()


def _revealed(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    y_pool = _true_labels(context, context.open_pool)
    if bool((y_pool < 0).any()):
        raise ValueError(
            f"acquisition.name = {context.settings.name!r}: it reads the true labels of the pool, which nobody knows; "
            "take another one, such as fisher_coverage"
        )
    pool = yield from outputs_of(context, context.open_pool, "pool")
    labeled = yield from _labeled_outputs(context, pool)
    known = yield from outputs_of(context, context.validation, "validation")
    y, y_v = context.y.to(context.meter.device), _true_labels(context, context.validation)
    weight = HeadInput(context.members[0]).weight.clone()
    return Revealed(pool, labeled, y, y_pool=y_pool, weight=weight, known=known, y_v=y_v), _no_targets()


def _queried(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    validation = yield from outputs_of(context, context.validation, "validation")
    pool = yield from _pool_outputs(context)
    rows = _rows_of_targets(context, validation.logits.argmax(dim=1), _true_labels(context, context.validation))
    return Queried(pool.features, validation.features[rows]), _no_targets()


def _predictive_information(context: RoundContext) -> Generator[Progress, None, EvidenceAndTargets]:
    drawn = torch.randperm(len(context.validation), generator=context.generator)[:EPIG_TARGETS]
    evidence = yield from predictive_information(
        context.members[0],
        context.images,
        context.open_pool,
        context.validation[drawn],
        k=context.settings.samples,
        batch_size=context.settings.batch_size,
        generator=context.generator,
        meter=context.meter,
        processes=context.processes,
    )
    return evidence, _no_targets()


def _labeled_outputs(context: RoundContext, pool: PoolOutputs) -> Generator[Progress, None, Outputs]:
    """No rows before anything is labeled."""
    if not len(context.labeled):
        return pool[:0]
    return (yield from outputs_of(context, context.labeled, "labeled images"))


def outputs_of(context: RoundContext, indices: Int[Tensor, " n"], what: str) -> Generator[Progress, None, Outputs]:
    """Exact ones, of images that are few."""
    return outputs(
        context.members[0],
        context.images,
        indices,
        batch_size=context.settings.batch_size,
        meter=context.meter,
        what=what,
        precision=exact(context.config.precision),
        processes=context.processes,
    )


def _pool_outputs(context: RoundContext) -> Generator[Progress, None, PoolOutputs]:
    """Of the open pool, whose features are streamed beyond the bound."""
    return pool_outputs(
        context.members[0],
        context.images,
        context.open_pool,
        batch_size=context.settings.batch_size,
        meter=context.meter,
        what="pool",
        bound=context.bound,
        precision=context.config.precision,
        processes=context.processes,
    )


Gather = Callable[[RoundContext], Generator[Progress, None, EvidenceAndTargets]]

GATHERERS: Mapping[type[Evidence], Gather] = MappingProxyType(
    {
        Nothing: _nothing,
        Features: _features,
        FisherScores: _fisher_scores,
        Posteriors: _posteriors,
        WeighedPosteriors: _weighed_posteriors,
        WeighedScores: _weighed_scores,
        Uncertainty: _uncertainty,
        Coverage: _coverage,
        Discrimination: _discrimination,
        Predictions: _predictions,
        LastLayer: _last_layer,
        Supervised: _supervised,
        Calibrated: _calibrated,
        Revealed: _revealed,
        Queried: _queried,
        PredictiveInformation: _predictive_information,
    }
)
"""By kind of evidence; `fkal.acquisition.evidence_kinds` says what each reads and costs."""

DRAWN_IN_ORDER: frozenset[type[Evidence]] = frozenset({Uncertainty, Discrimination})
"""Kinds whose draws or steps follow one another, so that the first process gathers them alone."""


class _Estimator:
    """The pseudo-label of a batch, from the views that the estimator asks for; the same views for every batch."""

    def __init__(self, context: RoundContext) -> None:
        self._context = context
        self._pseudo_label = context.config.pseudo_label
        if self._pseudo_label.sees_oracle and bool((context.images.labels[context.open_pool] < 0).any()):
            raise ValueError(
                f"acquisition.pseudo_label = {context.settings.pseudo_label!r}: it reads the true labels of the pool, "
                "which nobody knows; take another one, such as joint_shift_grid"
            )
        self._drawn = _drawn_views(context) if self._pseudo_label.views == "perturbed" else ()

    def __call__(self, batch: Batch, reference: Reference) -> Tensor:
        y = _true_labels(self._context, batch.indices)
        return self._pseudo_label.estimate(PoolBatch(batch.logits, batch.z, y, self._views(batch.x)), reference)

    def _views(self, x: Tensor) -> "Sequence[View] | Generator[View]":
        model, taps, meter = self._context.members[0], self._context.settings.taps, self._context.meter
        tokens = self._context.config.tokens
        match self._pseudo_label.views:
            case "clean":
                return (view_of(model, x, taps, meter, tokens),)
            case "perturbed":
                return perturbed_views(model, x, taps, self._drawn, meter, tokens)
        return ()


def _drawn_views(context: RoundContext) -> list[Perturbation]:
    settings = context.settings
    return perturbations(
        settings.samples,
        context.images.shape,
        degrees=settings.view_degrees,
        noise=settings.view_noise,
        generator=context.generator,
    )


def _true_labels(context: RoundContext, indices: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    return context.images.labels[indices].to(context.meter.device)


def _arg_max(batch: Batch) -> Tensor:
    return batch.logits.argmax(dim=1)


def _no_targets() -> Int[Tensor, " t"]:
    return torch.empty(0, dtype=torch.long)
