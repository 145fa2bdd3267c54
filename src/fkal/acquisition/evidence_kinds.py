"""The kinds of evidence: what each is, which settings its gathering reads, and what it costs. Imports no torch.

`fkal.core.evidence` has the records themselves, `fkal.engine.gathering` gathers them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fkal.acquisition import cost
from fkal.acquisition.cost import GUESSING, LABELING, Cost
from fkal.object_references import resolved

if TYPE_CHECKING:
    from fkal.core.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class EvidenceKind:
    """A kind of evidence: the name of its record, what it is in words, what it costs, what its gathering reads.

    `cost` is that of one model, with labels that cost nothing; `ensemble_cost` that of several models, where they
    are all asked. With `at_head` it is gathered where the last linear layer makes the logits. With `sees_oracle` it
    has the true labels of the pool. `labeling` is what a
    pseudo-label adds, by the passes that it takes.
    """

    name: str
    summary: str
    cost: Cost
    ensemble_cost: Cost | None = None
    reads: tuple[str, ...] = ()
    at_head: bool = False
    sees_oracle: bool = False
    labeling: Mapping[str, Cost] = field(default_factory=lambda: LABELING)

    @property
    def record(self) -> type[Evidence]:
        """The record's class; `fkal.core.evidence` is imported here."""
        kind: type[Evidence] = resolved(f"fkal.core.evidence:{self.name}")
        return kind


NOTHING = EvidenceKind(name="Nothing", summary="nothing", cost=cost.NO_PASS)
FEATURES = EvidenceKind(
    name="Features",
    summary="pool and validation features, validation labels",
    cost=cost.PCC,
    reads=("taps",),
)
FISHER_SCORES = EvidenceKind(
    name="FisherScores",
    summary="pool and validation features, loss gradients, labels guessed",
    cost=cost.PFK,
    reads=("taps", "pseudo_label", "whitening"),
)
WEIGHED_SCORES = EvidenceKind(
    name="WeighedScores",
    summary="pool and validation features, loss gradients, validation labels, labels guessed, logits of all",
    cost=cost.PFK,
    reads=(*FISHER_SCORES.reads, "matching"),
)
POSTERIORS = EvidenceKind(
    name="Posteriors",
    summary="pool and validation features, validation labels, class probabilities guessed",
    cost=cost.POSTERIORS,
    reads=("taps", "pseudo_label", "whitening", "matching"),
    labeling=GUESSING,
)
WEIGHED_POSTERIORS = EvidenceKind(
    name="WeighedPosteriors",
    summary="pool, validation and labeled features, their labels, class probabilities guessed, logits of all",
    cost=cost.WEIGHED_POSTERIORS,
    reads=POSTERIORS.reads,
    labeling=GUESSING,
)
UNCERTAINTY = EvidenceKind(
    name="Uncertainty",
    summary="K dropout passes of E models over the pool",
    cost=cost.UNCERTAINTY,
    ensemble_cost=cost.ENSEMBLE,
    reads=("samples", "ensemble"),
)
COVERAGE = EvidenceKind(name="Coverage", summary="pool and labeled features", cost=cost.CORE_SET, reads=("taps",))
DISCRIMINATION = EvidenceKind(
    name="Discrimination",
    summary="a VAE and a discriminator, trained from scratch",
    cost=cost.VAAL,
    reads=("vaal",),
)
PREDICTIONS = EvidenceKind(name="Predictions", summary="logits of the pool", cost=cost.ONE_PASS, at_head=True)
LAST_LAYER = EvidenceKind(
    name="LastLayer",
    summary="what enters and leaves the last layer: pool",
    cost=cost.ONE_PASS,
    at_head=True,
)
SUPERVISED = EvidenceKind(
    name="Supervised",
    summary="what enters and leaves the last layer: pool, labeled images; labels",
    cost=cost.CORE_SET,
    at_head=True,
)
CALIBRATED = EvidenceKind(
    name="Calibrated",
    summary="what enters and leaves the last layer: pool, labeled images, validation; labels",
    cost=cost.CALIBRATED,
    at_head=True,
)
REVEALED = EvidenceKind(
    name="Revealed",
    summary="what enters and leaves the last layer: pool, labeled images, validation; all labels, the pool's too",
    cost=cost.REVEALED,
    at_head=True,
    sees_oracle=True,
)
QUERIED = EvidenceKind(
    name="Queried",
    summary="what enters the last layer: pool, misclassified validation images",
    cost=cost.QUERIED,
    at_head=True,
)
PREDICTIVE_INFORMATION = EvidenceKind(
    name="PredictiveInformation",
    summary="K dropout networks over the pool and some validation images",
    cost=cost.EPIG,
    reads=("samples",),
)

EVIDENCE_KINDS: Mapping[str, EvidenceKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            NOTHING,
            FEATURES,
            FISHER_SCORES,
            WEIGHED_SCORES,
            POSTERIORS,
            WEIGHED_POSTERIORS,
            UNCERTAINTY,
            COVERAGE,
            DISCRIMINATION,
            PREDICTIONS,
            LAST_LAYER,
            SUPERVISED,
            CALIBRATED,
            REVEALED,
            QUERIED,
            PREDICTIVE_INFORMATION,
        )
    }
)
"""By the name of the record."""
