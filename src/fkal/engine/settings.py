"""What a user sets of training, pretraining and VAAL. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, get_args

from fkal.core.precision_names import Precision
from fkal.errors import shortened

FEW_CLASSES = 20
"""With at most so many classes, things are shown class by class."""

LossName = Literal["plain", "class_balanced", "balanced_softmax"]
LOSSES: tuple[str, ...] = get_args(LossName)
MOST_MINUTES = 525_600
MOST_EPOCHS = 100_000
MOST_STEPS_DOWN = 1000
"""Entries of `decay_epochs`."""
LARGEST_BATCH = 1_000_000
LARGEST_RATE = 1e30

MOST_OF_VAAL: Mapping[str, int] = MappingProxyType(
    {
        "iterations": 100_000_000,
        "batch_size": 1_000_000,
        "latent": 65_536,
        "width": 4096,
        "vae_steps": 10_000,
        "discriminator_steps": 10_000,
    }
)
LARGEST_WEIGHT = 1e30
"""Of the learning rate, too."""


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """Stochastic gradient descent with step decay.

    The learning rate is `lr`, times `decay` from each epoch of `decay_epochs` on (counted from
    0), after a linear rise over `warmup_epochs`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 50
    """Passes over the training images."""
    batch_size: int = 25
    """Images per step."""
    lr: float = 0.05
    """Learning rate."""
    momentum: float = 0.9
    """Momentum of stochastic gradient descent, below 1."""
    weight_decay: float = 0.0
    """Weight of the squared weights in the loss."""
    decay: float = 0.1
    """Factor on the learning rate at each epoch of `decay_epochs`."""
    decay_epochs: tuple[int, ...] = (15, 30, 45)
    """Epochs, counted from 0, from which the learning rate is smaller by `decay`."""
    warmup_epochs: int = 0
    """Epochs over which the learning rate first rises."""
    precision: Precision | None = None
    """What training passes compute in: `float32`, `tf32` (of a GPU), `mixed` (bfloat16 where the device has it, else
    float16 with a scaled loss), `bfloat16` or `float16`; null: as torch has it. Weights are float32."""

    def __post_init__(self) -> None:
        for key, least in (("epochs", 1), ("batch_size", 1), ("warmup_epochs", 0)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} = {getattr(self, key)}; give at least {least}")
        for key, most in (("epochs", MOST_EPOCHS), ("batch_size", LARGEST_BATCH), ("warmup_epochs", MOST_EPOCHS)):
            if getattr(self, key) > most:
                raise ValueError(f"{key} = {getattr(self, key)}; give at most {most:,}")
        if not 0 < self.lr <= LARGEST_RATE:
            raise ValueError(f"lr = {self.lr}; give a learning rate above 0 and up to {LARGEST_RATE:g}")
        if min(self.decay_epochs, default=0) < 0:
            raise ValueError(f"decay_epochs = {shortened(list(self.decay_epochs))}; epochs count from 0")
        if max(self.decay_epochs, default=0) > MOST_EPOCHS or len(self.decay_epochs) > MOST_STEPS_DOWN:
            raise ValueError(
                f"decay_epochs = {shortened(list(self.decay_epochs))}; "
                f"give at most {MOST_STEPS_DOWN:,} epochs, each up to {MOST_EPOCHS:,}"
            )
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum}; give a value in [0, 1)")
        if not 0 <= self.weight_decay <= LARGEST_RATE:
            raise ValueError(f"weight_decay = {self.weight_decay}; give 0 or more, up to {LARGEST_RATE:g}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay = {self.decay}; give a factor in (0, 1]")

    def factor(self, epoch: int) -> float:
        """What `lr` is multiplied by in this epoch."""
        if epoch < self.warmup_epochs:
            return (epoch + 1) / self.warmup_epochs
        return self.decay ** sum(epoch >= mark for mark in self.decay_epochs)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SgdConfig):
    """Training of the task model in each round.

    `start` is where a round's training begins: `warm` from the previous round's
    weights (as the authors' program), `theta_0` from the weights before the first label. `layers`
    are those that learn: `all`, or the `head` (the last linear layer) alone, a baseline; `frozen` is a head on
    embeddings of a pretrained model, which each image passes once. `loss` says how classes with
    different numbers of labels are weighed (`fkal.engine.losses`).
    """

    start: Literal["warm", "theta_0"] = "warm"
    """Where a round starts: `warm`, the weights of the round before, or `theta_0`, those before the first label."""
    layers: Literal["all", "head", "frozen"] = "all"
    """Which layers learn: `all`; the `head`, the last linear layer, by the same steps; or `frozen`: a linear head on
    embeddings that are made once, trained to convergence."""
    loss: LossName = "plain"
    """What training minimises: `plain` cross-entropy, `class_balanced` (each class has the same weight), or
    `balanced_softmax` (labeled class frequencies are in the logits while training)."""
    on_validation: bool = False
    """Whether training uses the validation images, too; they then steer by predictions of models that were trained
    without them."""
    checkpoint_minutes: float = 10.0
    """Minutes after which the state of a round within its training is written, after a whole epoch; 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.checkpoint_minutes <= MOST_MINUTES:
            raise ValueError(
                f"checkpoint_minutes = {self.checkpoint_minutes}; give 0 (never) up to {MOST_MINUTES:,} minutes"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(SgdConfig):
    """How theta^0 comes about: `rotation` pretraining on the biased pool, or `none` (random)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    task: Literal["rotation", "none"] = "rotation"
    """How the first weights are made: `rotation` pretraining on the pool, or `none`, at random."""
    epochs: int = 8
    """Passes over the pool."""
    momentum: float = 0.5
    """Momentum of stochastic gradient descent, below 1."""
    decay_epochs: tuple[int, ...] = (3, 6)
    """Epochs, counted from 0, from which the learning rate is smaller by `decay`."""


@dataclass(frozen=True, kw_only=True)
class VaalConfig:
    """The networks of VAAL and their training.

    An iteration is `vae_steps` steps of the VAE, then `discriminator_steps` of the discriminator,
    each on `batch_size` labeled and as many open images. The learning rate is `lr`, times `decay`
    whenever the fraction `decay_every` of the iterations is over. `latent` is the length of a
    latent, `width` the channels after the first halving (paper: 128), `beta` the weight of the KL
    divergence, `adversarial` that of deceiving the discriminator.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    iterations: int = 10_000
    """Training steps of both networks per round."""
    batch_size: int = 25
    """Labeled images per step, and as many open ones."""
    lr: float = 5e-4
    """Learning rate."""
    decay: float = 0.9
    """Factor on the learning rate each time the part `decay_every` of the iterations is over."""
    decay_every: float = 0.04
    """Part of the iterations between two decays."""
    latent: int = 32
    """Length of a latent vector."""
    width: int = 32
    """Channels after the first halving of the image (paper: 128)."""
    beta: float = 1.0
    """Weight of the KL divergence."""
    adversarial: float = 1.0
    """Weight of deceiving the discriminator."""
    vae_steps: int = 2
    """Steps of the VAE per iteration."""
    discriminator_steps: int = 2
    """Steps of the discriminator per iteration."""

    def __post_init__(self) -> None:
        for key in ("iterations", "latent", "width", "vae_steps", "discriminator_steps"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)}; give at least 1")
        for key, most in MOST_OF_VAAL.items():
            if getattr(self, key) > most:
                raise ValueError(f"{key} = {getattr(self, key)}; give at most {most:,}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size = {self.batch_size}; give at least 2, for batch normalisation")
        if not 0 < self.lr <= LARGEST_WEIGHT:
            raise ValueError(f"lr = {self.lr}; give a learning rate above 0 and up to {LARGEST_WEIGHT:g}")
        for key in ("decay", "decay_every"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"{key} = {getattr(self, key)}; give a value in (0, 1]")
        for key in ("beta", "adversarial"):
            if not 0 <= getattr(self, key) <= LARGEST_WEIGHT:
                raise ValueError(f"{key} = {getattr(self, key)}; give 0 or more, up to {LARGEST_WEIGHT:g}")

    def factor(self, iteration: int) -> float:
        """What `lr` is multiplied by in this iteration (counted from 0)."""
        return self.decay ** (iteration // max(1, round(self.decay_every * self.iterations)))
