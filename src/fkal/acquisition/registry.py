"""The registry of acquisitions: what a method selects with, and what it needs to see. Imports no torch.

A method of one's own is one function and one line in `ACQUISITIONS`, or, from another package,
an entry point of the group `fkal.acquisitions` that names an `Acquisition`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from fkal.acquisition.cost import Cost
from fkal.acquisition.evidence_kinds import (
    CALIBRATED,
    COVERAGE,
    DISCRIMINATION,
    FEATURES,
    FISHER_SCORES,
    LAST_LAYER,
    NOTHING,
    POSTERIORS,
    PREDICTIONS,
    PREDICTIVE_INFORMATION,
    QUERIED,
    REVEALED,
    SUPERVISED,
    UNCERTAINTY,
    WEIGHED_POSTERIORS,
    WEIGHED_SCORES,
    EvidenceKind,
)
from fkal.acquisition.settings import MATCHING_SUMMARIES, AcquisitionConfig
from fkal.core.labels import PSEUDO_LABELS
from fkal.errors import did_you_mean
from fkal.object_references import offered, resolved

if TYPE_CHECKING:
    from fkal.core.picks import Picks

ENTRY_POINTS = "fkal.acquisitions"

EMAM = "Emam et al., 2021"
SIMILAR = "Kothawade et al., NeurIPS 2021"
PAPER = "Gudovskiy et al., CVPR 2020"
DEEP_BAYESIAN = "Gal et al., ICML 2017"
OURS = "ours (decision 011)"


@dataclass(frozen=True)
class Acquisition:
    """A method: `select(evidence, p, generator, **options)`, the evidence it needs, its source.

    `function` is that function, or a reference to it, `package.module:name`. `options` names the fields of
    `AcquisitionConfig` that `select` takes as keywords. With `random_first` the first round, when no model is
    trained yet, picks at random; with `whole_pool` there is one round, which labels the pool; with `validation_only`
    there is one, which labels nothing and trains on the validation images. `by_matching` has what stands for it under
    a matching that needs other evidence. With `in_parts` the choice can be made in parts of the pool, and `select`
    takes `parts` (`fkal.core.pool_parts.Parts`).
    """

    function: str | Callable[..., Picks]
    needs: EvidenceKind
    summary: str
    reference: str
    options: tuple[str, ...] = ()
    random_first: bool = False
    whole_pool: bool = False
    validation_only: bool = False
    by_matching: Mapping[str, Acquisition] = field(default_factory=dict)
    in_parts: bool = False

    def under(self, matching: str) -> Acquisition:
        """The method as it is with this matching."""
        return self.by_matching.get(matching, self)

    @property
    def has_schedule(self) -> bool:
        """Whether labels come in rounds of a budget."""
        return not (self.whole_pool or self.validation_only)

    @property
    def select(self) -> Callable[..., Picks]:
        """The function; the module of a reference is imported here."""
        function: Callable[..., Picks] = resolved(self.function) if isinstance(self.function, str) else self.function
        return function

    def reads(self, pseudo_label: str) -> frozenset[str]:
        """The settings that affect what this method picks."""
        read = {*self.options, *self.needs.reads, *(["parts"] if self.in_parts else [])}
        if "pseudo_label" in read and PSEUDO_LABELS[pseudo_label].views == "perturbed":
            read |= {"samples", "view_degrees", "view_noise"}
        if "pseudo_label" in read and PSEUDO_LABELS[pseudo_label].views == "clean":
            read |= {"combine"}
        return frozenset(read)

    def cost(self, pseudo_label: str, *, members: int) -> Cost:
        """What an acquisition costs that is not the random first one; `members` is the paper's E."""
        if "pseudo_label" in self.needs.reads:
            return self.needs.cost.plus(self.needs.labeling[PSEUDO_LABELS[pseudo_label].passes])
        return self.needs.ensemble_cost if members > 1 and self.needs.ensemble_cost else self.needs.cost


def _uncertain(function: str, summary: str, reference: str) -> Acquisition:
    return Acquisition(function, UNCERTAINTY, summary, reference, random_first=True)


def _trained(function: str, needs: EvidenceKind, summary: str, reference: str) -> Acquisition:
    return Acquisition(function, needs, summary, reference, random_first=True)


BY_MATCHING: Mapping[str, Acquisition] = MappingProxyType(
    {
        "ecov": Acquisition(
            "fkal.acquisition.expected_coverage:select_ecov",
            POSTERIORS,
            MATCHING_SUMMARIES["ecov"],
            OURS,
            in_parts=True,
        ),
        "noisy_or": Acquisition(
            "fkal.acquisition.noisy_or:select_noisy_or", WEIGHED_POSTERIORS, MATCHING_SUMMARIES["noisy_or"], OURS
        ),
        "wcov": Acquisition(
            "fkal.acquisition.weighted_coverage:select_wcov",
            WEIGHED_POSTERIORS,
            MATCHING_SUMMARIES["wcov"],
            OURS,
            in_parts=True,
        ),
        "wcov_zg": Acquisition(
            "fkal.acquisition.weighted_coverage:select_wcov_zg",
            WEIGHED_SCORES,
            MATCHING_SUMMARIES["wcov_zg"],
            OURS,
            options=("combine",),
            in_parts=True,
        ),
        "tail_first": Acquisition(
            "fkal.acquisition.tail_first:select_tail_first", POSTERIORS, MATCHING_SUMMARIES["tail_first"], "a baseline"
        ),
    }
)
"""What `pfk` is under matchings that read more than g under one label: class probabilities in the place of g and
`combine`, or, under `wcov_zg`, the model's beside them."""


ACQUISITIONS: Mapping[str, Acquisition] = MappingProxyType(
    {
        "random": Acquisition(
            "fkal.acquisition.random:select", NOTHING, "uniform draw from the open pool", "the baseline"
        ),
        "pcc": Acquisition(
            "fkal.acquisition.fisher:select_pcc",
            FEATURES,
            "feature similarity R_z",
            f"{PAPER}, eq. 6",
            in_parts=True,
        ),
        "pfk": Acquisition(
            "fkal.acquisition.fisher:select_pfk",
            FISHER_SCORES,
            "Fisher kernel R_zg of features and loss gradients",
            f"{PAPER}, eq. 12",
            options=("combine", "matching"),
            by_matching=BY_MATCHING,
            in_parts=True,
        ),
        "varr": _uncertain(
            "fkal.acquisition.uncertainty:select_variation_ratio",
            "variation ratio of K Monte Carlo passes",
            DEEP_BAYESIAN,
        ),
        "entropy": _uncertain(
            "fkal.acquisition.uncertainty:select_entropy", "entropy of the mean of K Monte Carlo passes", DEEP_BAYESIAN
        ),
        "bald": _uncertain(
            "fkal.acquisition.uncertainty:select_bald", "how much a label says about the model", "Houlsby et al., 2011"
        ),
        "mean_std": _uncertain(
            "fkal.acquisition.uncertainty:select_mean_std",
            "spread of K Monte Carlo passes",
            "Kampffmeyer et al., CVPR workshops 2016",
        ),
        "vaal": Acquisition(
            "fkal.acquisition.vaal:select",
            DISCRIMINATION,
            "most surely unlabeled to a discriminator on a VAE's code",
            "Sinha et al., ICCV 2019",
            random_first=True,
        ),
        "coreset": Acquisition(
            "fkal.acquisition.coreset:select",
            COVERAGE,
            "greedy k-center over the pool's features",
            "Sener and Savarese, ICLR 2018",
        ),
        "least_confidence": _trained(
            "fkal.acquisition.confidence:select_least_confidence",
            PREDICTIONS,
            "least probable best class, one pass",
            "Lewis and Gale, SIGIR 1994",
        ),
        "margin": _trained(
            "fkal.acquisition.confidence:select_margin",
            PREDICTIONS,
            "closest two best classes, one pass",
            "Scheffer et al., IDA 2001",
        ),
        "softmax_entropy": _trained(
            "fkal.acquisition.confidence:select_entropy",
            PREDICTIONS,
            "entropy of the softmax, one pass",
            "Shannon, 1948",
        ),
        "balanced_margin": _trained(
            "fkal.acquisition.balanced:select_balanced_margin", PREDICTIONS, "as many a class, by margin from it", EMAM
        ),
        "base": _trained(
            "fkal.acquisition.balanced:select_base",
            LAST_LAYER,
            "as many a class, by distance to its decision boundary",
            EMAM,
        ),
        "badge": _trained(
            "fkal.acquisition.badge:select",
            LAST_LAYER,
            "k-means++ on last-layer gradients, factorised",
            "Ash et al., ICLR 2020",
        ),
        "dropquery": Acquisition(
            "fkal.acquisition.dropquery:select",
            LAST_LAYER,
            "middles of clusters of images whose prediction dropped features change",
            "Gupte et al., TMLR 2024",
        ),
        "typiclust": Acquisition(
            "fkal.acquisition.typiclust:select",
            SUPERVISED,
            "most typical image of each cluster without labels",
            "Hacohen et al., ICML 2022",
        ),
        "probcover": Acquisition(
            "fkal.acquisition.coverage:select_probcover",
            SUPERVISED,
            "most images in balls around the picks",
            "Yehuda et al., NeurIPS 2022",
        ),
        "maxherding": Acquisition(
            "fkal.acquisition.coverage:select_maxherding",
            SUPERVISED,
            "pool covered by a Gaussian kernel",
            "Bae et al., ECCV 2024",
        ),
        "uherding": Acquisition(
            "fkal.acquisition.coverage:select_uherding",
            CALIBRATED,
            "pool covered by a Gaussian kernel, weighted by margin",
            "Bae et al., ICLR 2025",
        ),
        "flqmi": Acquisition(
            "fkal.acquisition.similar:select_flqmi",
            QUERIED,
            "features that cover those of misclassified validation images",
            SIMILAR,
            in_parts=True,
        ),
        "gcmi": Acquisition(
            "fkal.acquisition.similar:select_gcmi",
            QUERIED,
            "features nearest to those of misclassified validation images",
            SIMILAR,
        ),
        "direct": _trained(
            "fkal.acquisition.direct:select",
            SUPERVISED,
            "around each class's best threshold of margins",
            "Nuggehalli et al., 2023",
        ),
        "galaxy": _trained(
            "fkal.acquisition.galaxy:select",
            SUPERVISED,
            "around where labels change along each class's line",
            "Zhang et al., ICML 2022",
        ),
        "epig": _trained(
            "fkal.acquisition.epig:select",
            PREDICTIVE_INFORMATION,
            "how much a label says about predictions for validation images",
            "Bickford Smith et al., AISTATS 2023",
        ),
        "bait": _trained(
            "fkal.acquisition.bait:select",
            SUPERVISED,
            "last-layer Fisher information, class by class",
            "Ash et al., NeurIPS 2021",
        ),
        "boss": Acquisition(
            "fkal.acquisition.boss:select",
            REVEALED,
            "best of 100 batches of ten strategies by true labels: an oracle, not a method",
            "Huseljic et al., CVPR 2026",
        ),
        "all": Acquisition(
            "fkal.acquisition.everything:select",
            NOTHING,
            "the whole pool labeled",
            "the upper baseline",
            whole_pool=True,
        ),
        "validation_only": Acquisition(
            "fkal.acquisition.nothing:select",
            NOTHING,
            "no image of the pool labeled, trained on the validation images",
            "the row that shows what validation labels are worth",
            validation_only=True,
        ),
    }
)


def acquisition(name: str) -> Acquisition:
    """The method of this name, built in or from the entry-point group `fkal.acquisitions`.

    Args:
        name: A name of `fkal list acquisitions`.

    Returns:
        The method: its function, what it needs, its source.

    Raises:
        ValueError: There is no method of this name.

    Example:
        >>> acquisition("coreset").reference
        'Sener and Savarese, ICLR 2018'
    """
    if name in ACQUISITIONS:
        return ACQUISITIONS[name]
    plugins = offered(ENTRY_POINTS)
    if name in plugins:
        entry: Acquisition = plugins[name].load()
        return entry
    known = [*ACQUISITIONS, *plugins]
    raise ValueError(f"unknown method {name!r}; {did_you_mean(name, known)}known: {', '.join(known)}")


def acquisition_of(settings: AcquisitionConfig) -> Acquisition:
    """The method that these settings choose, under their matching. Raises ValueError for an unknown name."""
    return acquisition(settings.name).under(settings.matching)
