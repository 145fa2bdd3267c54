"""The registry of acquisitions: what a method selects with, and what it needs to see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType

from fkal.acquisition import fisher, random
from fkal.core.evidence import Evidence, Features, FisherScores, Nothing
from fkal.core.picks import Picks
from fkal.spelling import did_you_mean

PAPER = "Gudovskiy et al., CVPR 2020"


@dataclass(frozen=True)
class Acquisition:
    """A method: `select(evidence, p, generator, **options)`, the evidence it needs, its source.

    `options` names the fields of `AcquisitionConfig` that `select` takes as keywords.
    """

    select: Callable[..., Picks]
    needs: type[Evidence]
    summary: str
    reference: str
    options: tuple[str, ...] = ()


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
