"""Evidence: what an acquisition may see. Frozen records; the engine gathers them.

Each names its own cost. A method that asks for `Nothing` pays no pass, `Features` and `Posteriors` one forward pass
an image of pool and validation, `WeighedPosteriors` one more a labeled image, `FisherScores` and `WeighedScores` one
forward and one backward pass, `Uncertainty` E K forward passes a pool image, `Coverage` one a pool image,
`Discrimination` the training of VAAL's networks.
`Predictions` and `LastLayer` pay one forward pass a pool image, `Supervised` one more a labeled image, `Queried`,
`Calibrated` and `Revealed` one more a validation image, `PredictiveInformation` K passes a pool image and target.
"""

from dataclasses import dataclass, field, replace

from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.row_stream import PoolDescriptors, RowStream
from fkal.core.whitening import Whiten, unchanged


@dataclass(frozen=True)
class Nothing:
    """Only how many images are open."""

    n: int


@dataclass(frozen=True)
class Features:
    """z of the open pool images and z_v of the targets (misclassified validation images).

    `whiten` is what all of them went through.
    """

    pool: PoolDescriptors
    targets: Descriptors
    whiten: Whiten = field(default=unchanged, kw_only=True, compare=False)

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class FisherScores(Features):
    """z and g of pool and targets; g of the pool under `pseudo_labels`, g_v under y_v or the estimator's own.

    `prior` are the whole pool's class frequencies, where the estimator estimates them.
    """

    pseudo_labels: Int[Tensor, " n"]
    prior: Float[Tensor, " d"] | None = None


@dataclass(frozen=True, kw_only=True)
class WeighedScores(FisherScores):
    """The same where all validation images are targets: the classes `y_t` and what each counts, and the model's
    `logits` of the open pool images.

    Before anything is labeled, all weights are 1, and there are no logits.
    """

    y_t: Int[Tensor, " m"]
    weights: Float[Tensor, " m"]
    logits: Float[Tensor, "n e"] | None


@dataclass(frozen=True)
class Posteriors(Features):
    """z of pool and targets, the classes `y_t` of the targets, and the pool's class probabilities; no gradient.

    `posterior` is the estimator's, whose most probable label is in `pseudo_labels`. `prior` are the whole pool's class
    frequencies, where the estimator estimates them.
    """

    y_t: Int[Tensor, " m"]
    posterior: Float[Tensor, "n d"]
    pseudo_labels: Int[Tensor, " n"]
    prior: Float[Tensor, " d"] | None


@dataclass(frozen=True)
class WeighedPosteriors(Posteriors):
    """The same where all validation images are targets: what each of them counts, how unsure the model is of each open
    image and its `logits` of it, and z, the classes `y` and the doubt of the labeled images.

    Before anything is labeled, all weights and all doubts are 1, and there are no logits.
    """

    weights: Float[Tensor, " m"]
    doubt: Float[Tensor, " n"]
    labeled: Descriptors
    y: Int[Tensor, " l"]
    labeled_doubt: Float[Tensor, " l"]
    logits: Float[Tensor, "n e"] | None


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

    pool: Float[Tensor, "n l"] | RowStream
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


@dataclass(frozen=True)
class Predictions:
    """The model's logits of the open pool images, without dropout."""

    logits: Float[Tensor, "n d"]

    @property
    def n(self) -> int:
        return len(self.logits)


@dataclass(frozen=True)
class Outputs:
    """What a model makes of n images, without dropout: its logits, and the features that enter its last layer."""

    logits: Float[Tensor, "n d"]
    features: Float[Tensor, "n l"]

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Int[Tensor, " r"] | slice) -> "Outputs":
        return Outputs(self.logits[rows], self.features[rows])


@dataclass(frozen=True)
class StreamedOutputs:
    """The same of a pool whose features memory does not hold. Looked up, they are outputs."""

    logits: Float[Tensor, "n d"]
    features: RowStream

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Int[Tensor, " r"] | slice) -> Outputs:
        return Outputs(self.logits[rows], self.features[rows])


PoolOutputs = Outputs | StreamedOutputs
"""Of a pool whose features memory holds, or of one whose features it does not."""


@dataclass(frozen=True)
class LastLayer:
    """Outputs of the open pool images, and the weight of the last layer."""

    pool: PoolOutputs
    weight: Float[Tensor, "d l"]

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class Supervised:
    """Outputs of the open pool images and of the labeled ones, whose labels are y."""

    pool: PoolOutputs
    labeled: Outputs
    y: Int[Tensor, " l"]

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class Calibrated(Supervised):
    """The same with the logits of all validation images, whose labels are y_v."""

    validation_logits: Float[Tensor, "m d"]
    y_v: Int[Tensor, " m"]


@dataclass(frozen=True)
class Revealed(Supervised):
    """The same with the true labels of the pool, the weight of the last layer, and outputs and labels of the validation
    images: for oracles."""

    pool: Outputs
    y_pool: Int[Tensor, " n"]
    weight: Float[Tensor, "d f"]
    known: Outputs
    y_v: Int[Tensor, " m"]

    def part(self, rows: Int[Tensor, " r"]) -> "Revealed":
        """Of these rows of the pool."""
        rows = rows.to(self.y_pool.device)
        return replace(self, pool=self.pool[rows], y_pool=self.y_pool[rows])


@dataclass(frozen=True)
class Queried:
    """Features that enter the last layer: of open pool images, and of queries, the misclassified validation images."""

    pool: Float[Tensor, "n l"] | RowStream
    queries: Float[Tensor, "m l"]

    @property
    def n(self) -> int:
        return len(self.pool)


@dataclass(frozen=True)
class PredictiveInformation:
    """How much each open pool image's label says about predictions for validation images (`fkal.core.epig`)."""

    epig: Float[Tensor, " n"]

    @property
    def n(self) -> int:
        return len(self.epig)


Evidence = (
    Nothing
    | Features
    | FisherScores
    | Posteriors
    | WeighedPosteriors
    | WeighedScores
    | Uncertainty
    | Coverage
    | Discrimination
    | Predictions
    | LastLayer
    | Supervised
    | Calibrated
    | Revealed
    | Queried
    | PredictiveInformation
)
