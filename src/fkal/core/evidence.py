"""Evidence: what an acquisition may see. Frozen records; the engine gathers them.

Each names its own cost. A method that asks for `Nothing` pays no pass, `Features` one forward pass
an image of pool and validation, `FisherScores` one forward and one backward pass, `Uncertainty` E K
forward passes a pool image, `Coverage` one a pool image, `Discrimination` the training of VAAL's networks.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors


@dataclass(frozen=True)
class Nothing:
    """Only how many images are open."""

    n: int


@dataclass(frozen=True)
class Features:
    """z of the open pool images and z_v of the targets (misclassified validation images)."""

    pool: Descriptors
    targets: Descriptors

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class FisherScores(Features):
    """z and g of pool and targets; g of the pool under `pseudo_labels`, g_v under y_v or the estimator's own."""

    pseudo_labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Uncertainty:
    """How unsure Monte Carlo passes are of each open pool image, in four measures (`fkal.core.uncertainty`)."""

    variation_ratio: Float[Tensor, " n"]
    entropy: Float[Tensor, " n"]
    mutual_information: Float[Tensor, " n"]
    mean_std: Float[Tensor, " n"]

    @property
    def n(self) -> int:
        return len(self.entropy)


@dataclass(frozen=True)
class Coverage:
    """Pooled task features, not standardised, of the open pool images and of the labeled ones."""

    pool: Float[Tensor, "n l"]
    labeled: Float[Tensor, "m l"]

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class Discrimination:
    """The probability that VAAL's discriminator gives each open pool image of being labeled already."""

    labeled_probability: Float[Tensor, " n"]

    @property
    def n(self) -> int:
        return len(self.labeled_probability)


Evidence = Nothing | Features | FisherScores | Uncertainty | Coverage | Discrimination
