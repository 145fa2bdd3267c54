"""The registry of acquisitions: what a method selects with, and what it needs to see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType

from fkal.acquisition import (
    badge,
    bait,
    balanced,
    confidence,
    coreset,
    coverage,
    direct,
    epig,
    everything,
    fisher,
    galaxy,
    random,
    similar,
    typiclust,
    uncertainty,
    vaal,
)
from fkal.acquisition.cost import (
    CALIBRATED,
    CORE_SET,
    ENSEMBLE,
    EPIG,
    LABELING,
    NO_PASS,
    ONE_PASS,
    PCC,
    PFK,
    QUERIED,
    UNCERTAINTY,
    VAAL,
    Cost,
)
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Discrimination,
    Evidence,
    Features,
    FisherScores,
    LastLayer,
    Nothing,
    Predictions,
    PredictiveInformation,
    Queried,
    Supervised,
    Uncertainty,
)
from fkal.core.picks import Picks
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.errors import did_you_mean

EMAM = "Emam et al., 2021"
SIMILAR = "Kothawade et al., NeurIPS 2021"
PAPER = "Gudovskiy et al., CVPR 2020"
DEEP_BAYESIAN = "Gal et al., ICML 2017"

READS: Mapping[type[Evidence], tuple[str, ...]] = MappingProxyType(
    {
        Nothing: (),
        Features: ("taps",),
        FisherScores: ("taps", "pseudo_label", "whitening"),
        Uncertainty: ("samples", "ensemble"),
        Coverage: ("taps",),
        Discrimination: ("vaal",),
        Predictions: (),
        LastLayer: (),
        Supervised: (),
        Calibrated: (),
        Queried: (),
        PredictiveInformation: ("samples",),
    }
)
"""What the gathering of each kind of evidence reads of the settings."""

COSTS: Mapping[type[Evidence], Cost] = MappingProxyType(
    {
        Nothing: NO_PASS,
        Features: PCC,
        FisherScores: PFK,
        Uncertainty: UNCERTAINTY,
        Coverage: CORE_SET,
        Discrimination: VAAL,
        Predictions: ONE_PASS,
        LastLayer: ONE_PASS,
        Supervised: CORE_SET,
        Calibrated: CALIBRATED,
        Queried: QUERIED,
        PredictiveInformation: EPIG,
    }
)
"""What the gathering of each kind of evidence costs, from one model and with labels that cost nothing."""


@dataclass(frozen=True)
class Acquisition:
    """A method: `select(evidence, p, generator, **options)`, the evidence it needs, its source.

    `options` names the fields of `AcquisitionConfig` that `select` takes as keywords. With
    `random_first` the first iteration, when no model is trained yet, picks at random; with
    `whole_pool` there is one iteration, which labels the pool.
    """

    select: Callable[..., Picks]
    needs: type[Evidence]
    summary: str
    reference: str
    options: tuple[str, ...] = ()
    random_first: bool = False
    whole_pool: bool = False

    def reads(self, pseudo_label: str) -> frozenset[str]:
        """The settings that bear on what this method picks."""
        read = {*self.options, *READS[self.needs]}
        if "pseudo_label" in read and PSEUDO_LABELS[pseudo_label].views == "perturbed":
            read |= {"samples", "view_degrees", "view_noise"}
        if "pseudo_label" in read and PSEUDO_LABELS[pseudo_label].views == "clean":
            read |= {"combine"}
        return frozenset(read)

    def cost(self, pseudo_label: str, *, members: int) -> Cost:
        """What an acquisition costs that is not the random first one; `members` is the paper's E."""
        if self.needs is FisherScores:
            return PFK.plus(LABELING[PSEUDO_LABELS[pseudo_label].passes])
        if self.needs is Uncertainty and members > 1:
            return ENSEMBLE
        return COSTS[self.needs]


def _uncertain(select: Callable[..., Picks], summary: str, reference: str) -> Acquisition:
    return Acquisition(select, Uncertainty, summary, reference, random_first=True)


def _trained(select: Callable[..., Picks], needs: type[Evidence], summary: str, reference: str) -> Acquisition:
    return Acquisition(select, needs, summary, reference, random_first=True)


ACQUISITIONS: Mapping[str, Acquisition] = MappingProxyType(
    {
        "random": Acquisition(random.select, Nothing, "uniform draw from the open pool", "the baseline"),
        "pcc": Acquisition(fisher.select_pcc, Features, "feature similarity R_z", f"{PAPER}, eq. 6"),
        "pfk": Acquisition(
            fisher.select_pfk,
            FisherScores,
            "Fisher kernel R_zg of features and loss gradients",
            f"{PAPER}, eq. 12",
            options=("combine", "matching"),
        ),
        "varr": _uncertain(
            uncertainty.select_variation_ratio, "variation ratio of K Monte Carlo passes", DEEP_BAYESIAN
        ),
        "entropy": _uncertain(uncertainty.select_entropy, "entropy of the mean of K Monte Carlo passes", DEEP_BAYESIAN),
        "bald": _uncertain(uncertainty.select_bald, "what a label would tell of the model", "Houlsby et al., 2011"),
        "mean_std": _uncertain(
            uncertainty.select_mean_std, "spread of K Monte Carlo passes", "Kampffmeyer et al., CVPR workshops 2016"
        ),
        "vaal": Acquisition(
            vaal.select,
            Discrimination,
            "most surely unlabeled to a discriminator on a VAE's code",
            "Sinha et al., ICCV 2019",
            random_first=True,
        ),
        "coreset": Acquisition(
            coreset.select, Coverage, "greedy k-center over the pool's features", "Sener and Savarese, ICLR 2018"
        ),
        "least_confidence": _trained(
            confidence.select_least_confidence,
            Predictions,
            "least probable best class, one pass",
            "Lewis and Gale, SIGIR 1994",
        ),
        "margin": _trained(
            confidence.select_margin, Predictions, "closest two best classes, one pass", "Scheffer et al., IDA 2001"
        ),
        "softmax_entropy": _trained(
            confidence.select_entropy, Predictions, "entropy of the softmax, one pass", "Shannon, 1948"
        ),
        "balanced_margin": _trained(
            balanced.select_balanced_margin, Predictions, "as many a class, by margin from it", EMAM
        ),
        "base": _trained(
            balanced.select_base, LastLayer, "as many a class, by distance to its decision boundary", EMAM
        ),
        "badge": _trained(
            badge.select, LastLayer, "k-means++ on last-layer gradients, factorised", "Ash et al., ICLR 2020"
        ),
        "typiclust": Acquisition(
            typiclust.select,
            Supervised,
            "most typical image of each cluster without labels",
            "Hacohen et al., ICML 2022",
        ),
        "probcover": Acquisition(
            coverage.select_probcover,
            Supervised,
            "most images in balls around the picks",
            "Yehuda et al., NeurIPS 2022",
        ),
        "maxherding": Acquisition(
            coverage.select_maxherding, Supervised, "pool covered by a Gaussian kernel", "Bae et al., ECCV 2024"
        ),
        "uherding": Acquisition(
            coverage.select_uherding,
            Calibrated,
            "pool covered by a Gaussian kernel, weighted by margin",
            "Bae et al., ICLR 2025",
        ),
        "flqmi": Acquisition(
            similar.select_flqmi, Queried, "features that cover those of misclassified validation images", SIMILAR
        ),
        "gcmi": Acquisition(
            similar.select_gcmi, Queried, "features nearest to those of misclassified validation images", SIMILAR
        ),
        "direct": _trained(
            direct.select, Supervised, "around each class's best threshold of margins", "Nuggehalli et al., 2023"
        ),
        "galaxy": _trained(
            galaxy.select, Supervised, "around where labels change along each class's line", "Zhang et al., ICML 2022"
        ),
        "epig": _trained(
            epig.select,
            PredictiveInformation,
            "what a label would tell of predictions for validation images",
            "Bickford Smith et al., AISTATS 2023",
        ),
        "bait": _trained(
            bait.select, Supervised, "last-layer Fisher information, class by class", "Ash et al., NeurIPS 2021"
        ),
        "all": Acquisition(everything.select, Nothing, "the whole pool labeled", "the upper baseline", whole_pool=True),
    }
)


def acquisition(name: str) -> Acquisition:
    """The method of this name, built in or from the entry-point group `fkal.acquisitions`.

    Raises ValueError for an unknown name.
    """
    if name in ACQUISITIONS:
        return ACQUISITIONS[name]
    plugins = {point.name: point for point in entry_points(group="fkal.acquisitions")}
    if name in plugins:
        return plugins[name].load()
    known = [*ACQUISITIONS, *plugins]
    raise ValueError(f"unknown acquisition {name!r}; {did_you_mean(name, known)}known: {', '.join(known)}")
