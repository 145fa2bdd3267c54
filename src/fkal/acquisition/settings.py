"""What a user sets of the acquisition, and the names that these settings take. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from fkal.core.labels import PSEUDO_LABELS
from fkal.errors import did_you_mean, shortened

MOST: Mapping[str, int] = MappingProxyType(
    {"budget": 100_000_000, "rounds": 10_000, "batch_size": 1_000_000, "samples": 4096, "ensemble": 1024}
)
"""Far above what the paper needs, and below what no memory holds."""
MOST_PARTS = 65_536
MOST_TAPS = 1000

COMBINE_NAMES = ("product", "product_of_sums", "sum")
"""How R_z and R_g meet: the names of `fkal.core.kernels.R_ZG`."""

MATCHING_SUMMARIES: Mapping[str, str] = MappingProxyType(
    {
        "k_center": "targets thinned to as many as there are picks, as unlike as can be; the best match of each",
        "coverage": "the picks that together are most like all targets",
        "transport": "each target's best match, then its second best; of a rank that does not fit, the dearest to move",
        "ecov": "as coverage, by features and class probabilities instead of gradients",
        "noisy_or": "the picks that together are most likely to help each validation image, by its weight",
        "wcov": "as ecov, for all validation images by their weight, and less for what the model knows already",
        "wcov_zg": "as coverage, for all validation images by their weight, and less for what the model knows already",
        "tail_first": "the rarest class of the pool, as estimated, chooses first, by class probabilities alone",
    }
)
"""How targets share the picks."""

MATCHING_NAMES = tuple(MATCHING_SUMMARIES)

WHITENING_NAMES = ("none", "shrunk")
"""What descriptors go through before they are compared: the names of `fkal.core.whitening.WHITENINGS`."""

EPIG_TARGETS = 100
"""Target images that EPIG draws per round; its paper draws as many."""


@dataclass(frozen=True, kw_only=True)
class AcquisitionConfig:
    """The method and its settings.

    `budget` is the paper's P (images labeled per round), `rounds` its B. `taps` are module
    names of the model whose outputs become descriptors; `batch_size` images are described at
    once. `combine`, `pseudo_label`, `matching` (how the targets share the budget) and `whitening` (of
    descriptors, before they are compared) matter to `pfk` alone; `combine` does not matter under the matchings
    `ecov`, `noisy_or`, `wcov` and `tail_first`. `samples` (K) are Monte Carlo passes or views, `ensemble` (E) the
    models of uncertainty methods; views are turned by up to `view_degrees` and get noise of `view_noise` (standard
    deviation, on normalised inputs). In `parts` the pool is not looked at as a whole: each part has its own best
    matches, which are merged, or under `coverage`, `ecov`, `wcov` and `wcov_zg` its own picks, from which the picks are
    chosen.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str = "pfk"
    """The method: a name of `fkal list acquisitions`."""
    budget: int = 125
    """Images labeled per round, the paper's P."""
    rounds: int = 10
    """Rounds, the paper's B."""
    taps: tuple[str, ...] = ("conv1", "conv2", "fc1")
    """Modules of the model whose outputs describe an image."""
    pseudo_label: str = "joint"
    """How `pfk` guesses the label of a pool image."""
    combine: str = "product"
    """How `pfk` combines the kernels of features and gradients."""
    matching: str = "k_center"
    """How the targets of `pfk` share the budget."""
    whitening: str = "none"
    """What descriptors of `pfk` go through before they are compared."""
    batch_size: int = 1000
    """Images described at once."""
    samples: int = 128
    """Monte Carlo passes or views, K."""
    ensemble: int = 1
    """Models of uncertainty methods, E."""
    view_degrees: float = 5.0
    """Views are turned by up to this many degrees."""
    view_noise: float = 0.01
    """Standard deviation of the noise that views get, on normalised images."""
    parts: int | None = None
    """Parts of the pool that a choice is made in, at most; null: the whole pool at once."""

    def __post_init__(self) -> None:
        for key, limit in MOST.items():
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)}; give at least 1")
            if getattr(self, key) > limit:
                raise ValueError(f"{key} = {getattr(self, key)}; give at most {limit:,}")
        if self.parts is not None and not 1 <= self.parts <= MOST_PARTS:
            raise ValueError(f"parts = {self.parts}; give 1 to {MOST_PARTS:,}, or null for the whole pool at once")
        for key, most in (("view_degrees", 180.0), ("view_noise", 1e6)):
            if not 0 <= getattr(self, key) <= most:
                raise ValueError(f"{key} = {getattr(self, key)}; give 0 to {most:g}")
        if not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError(f"taps = {shortened(list(self.taps))}; name at least one layer, each once")
        if len(self.taps) > MOST_TAPS:
            raise ValueError(f"taps = {shortened(list(self.taps))}; name at most {MOST_TAPS:,} layers")
        _one_of("pseudo_label", self.pseudo_label, PSEUDO_LABELS)
        _one_of("combine", self.combine, COMBINE_NAMES)
        _one_of("matching", self.matching, MATCHING_NAMES)
        _one_of("whitening", self.whitening, WHITENING_NAMES)


def _one_of(key: str, value: str, known: Iterable[str]) -> None:
    names = list(known)
    if value not in names:
        near = did_you_mean(str(value), names)
        raise ValueError(f"{key} = {shortened(value)}; {near}give one of {', '.join(names)}")
