"""Evidence: what an acquisition may see. Frozen records; the engine gathers them.

Each names its own cost: a method that asks for `Nothing` pays no pass, `Features` one forward
pass an image of pool and validation, `FisherScores` one forward and one backward pass.
"""

from dataclasses import dataclass

from jaxtyping import Int
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
    """z and g of pool and targets; g of the pool under `pseudo_labels`, g_v under y_v or, for `predicted`, y^_v."""

    pseudo_labels: Int[Tensor, " n"]


Evidence = Nothing | Features | FisherScores
