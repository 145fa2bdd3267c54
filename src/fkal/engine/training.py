"""Supervised training on the labels so far: cross-entropy, SGD, step decay."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.errors import shortened
from fkal.models import head_name, learning

MOST_EPOCHS = 100_000
MOST_STEPS_DOWN = 1000
"""Entries of `decay_epochs`."""
LARGEST_BATCH = 1_000_000
LARGEST_RATE = 1e30


@dataclass(frozen=True, kw_only=True)
class SgdConfig:
    """Stochastic gradient descent with step decay.

    The learning rate is `lr`, times `decay` from each epoch of `decay_epochs` on (counted from
    0), after a linear rise over `warmup_epochs`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: int = 50
    batch_size: int = 25
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: float = 0.1
    decay_epochs: tuple[int, ...] = (15, 30, 45)
    warmup_epochs: int = 0

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
    """Training of the task model in each iteration.

    `start` is where an iteration's training begins: `warm` from the previous iteration's
    weights (as the authors' program), `theta_0` from the weights before the first label. `layers`
    are those that learn: `all`, or the `head` (the last linear layer) alone, a baseline.
    """

    start: Literal["warm", "theta_0"] = "warm"
    layers: Literal["all", "head"] = "all"


def optimizer(model: nn.Module, config: SgdConfig) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


def fit(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    labels: Int[Tensor, " n"],
    *,
    config: TrainConfig,
    generator: torch.Generator,
    meter: Meter,
) -> Iterator[float]:
    """Train the model in place; yields each epoch's mean loss (nats) when the epoch is over.

    Where the head alone learns, the body stays in evaluation mode: its normalisation, too, is as it was.

    Raises FloatingPointError as soon as an epoch's loss is not finite.
    """
    device = meter.device
    learner = model.get_submodule(head_name(model)) if config.layers == "head" else model
    with learning(model, learner):
        sgd = optimizer(learner, config)
        schedule = torch.optim.lr_scheduler.LambdaLR(sgd, config.factor)
        for epoch in range(config.epochs):
            rows = shuffled_batches(len(indices), config.batch_size, generator)
            stream = images.batches([indices[r] for r in rows], device=device, augment=generator)
            batches = ((x, labels[r].to(device)) for r, x in zip(rows, stream, strict=True))
            mean = train_epoch(model, batches, sgd, meter, seed=generator.initial_seed() + epoch)
            schedule.step()
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"the training loss is {mean} after epoch {epoch + 1}; lower train.lr = {config.lr}"
                )
            yield mean


def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    sgd: torch.optim.Optimizer,
    meter: Meter,
    *,
    seed: int,
) -> float:
    """One pass over (images, labels) batches; returns the mean loss (nats).

    Layers that draw, such as a model's own dropout, know only torch's global generators; these
    are set to `seed` meanwhile and afterwards are as they were.
    """
    total, n = torch.zeros((), device=meter.device), 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            total += loss.detach() * len(y)
            n += len(y)
            meter.forward(len(y))
            meter.backward(len(y))
    return float(total) / n


def shuffled_batches(n: int, size: int, generator: torch.Generator) -> list[Int[Tensor, " b"]]:
    """A random order of 0..n-1 in batches; a last batch of one joins the one before it.

    Batch normalisation has no variance of a single image.
    """
    batches = list(torch.randperm(n, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
