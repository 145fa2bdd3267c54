"""Round: everything that one round of Algorithm 1 leaves behind."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from fkal.engine.measured import measured_part


@dataclass(frozen=True)
class Selection:
    """The p images that a round had labeled, in the order of picking. Tensors on the CPU.

    `indices` count within the training part of the dataset, and so do `matches`, the validation
    images that the picks were matched with. What a method does not know is None.
    """

    indices: Int[Tensor, " p"]
    labels: Int[Tensor, " p"]
    ranks: Int[Tensor, " p"] | None = None
    scores: Float[Tensor, " p"] | None = None
    matches: Int[Tensor, " p"] | None = None
    pseudo_labels: Int[Tensor, " p"] | None = None


@dataclass(frozen=True)
class Request:
    """The images that round `b` wants labeled, in the order of picking. Tensors on the CPU.

    The columns are those of `Selection`. `metrics` has what is known of the selection without these labels,
    the other fields what it cost; the round goes on from here, in this process or in another one.
    """

    b: int
    indices: Int[Tensor, " p"]
    ranks: Int[Tensor, " p"] | None
    scores: Float[Tensor, " p"] | None
    matches: Int[Tensor, " p"] | None
    pseudo_labels: Int[Tensor, " p"] | None
    metrics: Mapping[str, float]
    forward_images: Mapping[str, int]
    backward_images: Mapping[str, int]
    seconds: Mapping[str, float]
    peak_memory_mb: float | None

    def labeled(self, labels: Int[Tensor, " p"]) -> Selection:
        """The selection that these labels make of it."""
        return Selection(self.indices, labels, self.ranks, self.scores, self.matches, self.pseudo_labels)


@dataclass(frozen=True)
class Round:
    """One finished round.

    `b` counts from 1; `labels_used` includes this round's. `metrics` has the tracked names
    (`test/accuracy`, `select/minority_fraction`, ...), fractions in [0, 1]. `train_loss` is the
    mean loss (nats) of each epoch. `confusion` is that of the measured images, (true, predicted).
    `labeled_counts` counts the labeled set by class. `forward_images`, `backward_images` and
    `seconds` go by phase (`descriptors`, `select`, `train`, `evaluate`). `weights` is the model's
    state after training, on the CPU. `epoch` is the one the weights stem from, counted from 1: the
    last, unless the authors' rule is asked for. Of an ensemble, `confusion` is the sum over members,
    `weights` holds theirs under `members.0.`, `members.1.`, and `epoch` is the last member's. `cross_fitted` has the
    logits of the validation images where training uses these; it is not kept on disk, as it can be made again.
    """

    b: int
    labels_used: int
    selection: Selection
    metrics: Mapping[str, float]
    train_loss: tuple[float, ...]
    epoch: int
    confusion: Int[Tensor, "d d"]
    labeled_counts: tuple[int, ...]
    forward_images: Mapping[str, int]
    backward_images: Mapping[str, int]
    seconds: Mapping[str, float]
    peak_memory_mb: float | None
    weights: Mapping[str, Tensor]
    cross_fitted: Float[Tensor, "m d"] | None = None

    @property
    def measured(self) -> str:
        """The part that accuracies stand for: `holdout` where one was measured, else `test`, else validation."""
        return measured_part(self.metrics)
