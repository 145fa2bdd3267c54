"""The registry of acquisitions: what a method selects with, and what it needs to see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType

from fkal.acquisition import coreset, everything, fisher, random, uncertainty, vaal
from fkal.acquisition.cost import CORE_SET, ENSEMBLE, LABELING, NO_PASS, PCC, PFK, UNCERTAINTY, VAAL, Cost
from fkal.core.evidence import Coverage, Discrimination, Evidence, Features, FisherScores, Nothing, Uncertainty
from fkal.core.picks import Picks
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.spelling import did_you_mean

PAPER = "Gudovskiy et al., CVPR 2020"
DEEP_BAYESIAN = "Gal et al., ICML 2017"

READS: Mapping[type[Evidence], tuple[str, ...]] = MappingProxyType(
    {
        Nothing: (),
        Features: ("taps",),
        FisherScores: ("taps", "pseudo_label"),
        Uncertainty: ("samples", "ensemble"),
        Coverage: ("taps",),
        Discrimination: ("vaal",),
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
            return PFK.plus(LABELING[PSEUDO_LABELS[pseudo_label].views])
        if self.needs is Uncertainty and members > 1:
            return ENSEMBLE
        return COSTS[self.needs]


def _uncertain(select: Callable[..., Picks], summary: str, reference: str) -> Acquisition:
    return Acquisition(select, Uncertainty, summary, reference, random_first=True)


ACQUISITIONS: Mapping[str, Acquisition] = MappingProxyType(
    {
        "random": Acquisition(random.select, Nothing, "uniform draw from the open pool", "the baseline"),
        "pcc": Acquisition(fisher.select_pcc, Features, "feature similarity R_z", f"{PAPER}, eq. 6"),
        "pfk": Acquisition(
            fisher.select_pfk,
            FisherScores,
            "Fisher kernel R_zg of features and loss gradients",
            f"{PAPER}, eq. 12",
            options=("combine",),
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
