"""Supervised training on the labels so far: a cross-entropy, SGD, step decay."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from fkal.core.precision_names import Precision
from fkal.data.images import ImageSet
from fkal.engine.batch_parts import WHOLE, BatchParts, StepBatch
from fkal.engine.batch_statistics import SharedStatistics
from fkal.engine.compiling import compiled
from fkal.engine.losses import LOSSES
from fkal.engine.metering import Meter
from fkal.engine.precision import computing, resolved
from fkal.engine.settings import SgdConfig, TrainConfig
from fkal.engine.unfinished import FitState
from fkal.models.modes import learning
from fkal.models.registry import head_name

MOMENTUM = "momentum_buffer"
"""torch's own name of it in the state of SGD."""


def optimizer(model: nn.Module, config: SgdConfig, scaler: torch.amp.GradScaler) -> torch.optim.SGD:
    """In one kernel, but for losses that are scaled: where their first step is left out, that kernel's momentum starts
    at whatever was in memory."""
    return torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=not scaler.is_enabled(),
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
    first_epoch: int = 0,
    begun: FitState | None = None,
    after_epoch: Callable[[Callable[[], FitState]], None] | None = None,
    compiles: bool = False,
    parts: BatchParts = WHOLE,
) -> Iterator[float]:
    """Train the model in place; yields each epoch's mean loss (nats) when the epoch is over.

    With `begun` it goes on at `first_epoch`, from the weights that the model has. `after_epoch` gets a function that
    makes such a state. With `compiles` images pass a program of the model. Where the head alone learns, the body stays
    in evaluation mode: its normalisation, too, is as it was.

    Raises FloatingPointError as soon as an epoch's loss is not finite, ValueError for an image without a label.
    """
    if bool((labels < 0).any()):
        without = indices[(labels < 0).to(indices.device)][:10].tolist()
        raise ValueError(f"images {without} have no label; train on labeled images alone")
    device = meter.device
    counts = labels.bincount(minlength=len(images.classes)).to(device)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return LOSSES[config.loss](logits, y, counts)

    def labeled(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        return x, labels[rows].to(device)

    learner = model.get_submodule(head_name(model)) if config.layers == "head" else model
    network = compiled(model, compiles=compiles)
    with learning(model, learner):
        trained = parts.trained(network)
        scaler = scaler_of(config.precision, device)
        sgd = optimizer(learner, config, scaler)
        if begun is not None:
            _go_on(learner, sgd, scaler, generator, begun)
        schedule = torch.optim.lr_scheduler.LambdaLR(sgd, config.factor, last_epoch=first_epoch - 1)
        for epoch in range(first_epoch, config.epochs):
            rows = shuffled_batches(len(indices), config.batch_size, generator)
            steps = parts.steps(images, indices, rows, labeled=labeled, augment=generator, device=device)
            mean = train_epoch(
                trained,
                steps,
                sgd,
                meter,
                seed=generator.initial_seed() + epoch,
                loss=loss,
                precision=config.precision,
                scaler=scaler,
                parts=parts,
            )
            next_rate(schedule)
            refuse_unfinite(mean, epoch, "train", config)
            if after_epoch is not None:
                after_epoch(partial(_fit_state, learner, sgd, scaler, generator))
            yield mean
    parts.agree(model)


def scaler_of(precision: Precision | None, device: torch.device) -> torch.amp.GradScaler:
    """Scales losses whose gradients are in float16, so that small ones are not lost; others it leaves alone."""
    return torch.amp.GradScaler(device.type, enabled=resolved(precision, device) == "float16")


def refuse_unfinite(loss: float, epoch: int, section: str, config: SgdConfig) -> None:
    """Raises FloatingPointError, which names the rate of this section of the settings."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the {section}ing loss is {loss} after epoch {epoch + 1}; lower {section}.lr = {config.lr}"
        )


def next_rate(schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """The rate of the next epoch; torch warns where the only step of an epoch was left out by the scaler."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        schedule.step()


def _fit_state(
    learner: nn.Module, sgd: torch.optim.SGD, scaler: torch.amp.GradScaler, generator: torch.Generator
) -> FitState:
    buffers = {name: sgd.state[each].get(MOMENTUM) for name, each in learner.named_parameters() if each in sgd.state}
    momentum = {name: kept.detach().cpu().clone() for name, kept in buffers.items() if kept is not None}
    scales = {name: torch.tensor(value, dtype=torch.float64) for name, value in scaler.state_dict().items()}
    return FitState(momentum, generator.get_state(), scales)


def _go_on(
    learner: nn.Module,
    sgd: torch.optim.SGD,
    scaler: torch.amp.GradScaler,
    generator: torch.Generator,
    begun: FitState,
) -> None:
    generator.set_state(begun.generator)
    if scaler.is_enabled():
        whole = ("growth_interval", "_growth_tracker")
        scaler.load_state_dict({name: int(v) if name in whole else float(v) for name, v in begun.scales.items()})
    for name, parameter in learner.named_parameters():
        if name in begun.momentum:
            sgd.state[parameter][MOMENTUM] = torch.empty_like(parameter).copy_(begun.momentum[name])
    for group in sgd.param_groups:
        group["initial_lr"] = group["lr"]  # what a schedule that goes on starts from


def train_epoch(
    model: nn.Module,
    steps: Iterable[StepBatch],
    sgd: torch.optim.Optimizer,
    meter: Meter,
    *,
    seed: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    precision: Precision | None = None,
    scaler: torch.amp.GradScaler | None = None,
    parts: BatchParts = WHOLE,
) -> float:
    """One pass over batches; returns the mean loss (nats), which is computed in float32.

    Layers that draw, such as a model's own dropout, know only torch's global generators; these
    are set to `seed` meanwhile and afterwards are as they were.
    """
    scaler = scaler or scaler_of(precision, meter.device)
    totals, n = torch.zeros(parts.count, device=meter.device), 0
    cards = [torch.cuda.current_device()] if meter.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards), parts.statistics() as statistics:
        torch.manual_seed(seed)
        for number, step in enumerate(steps):
            sgd.zero_grad(set_to_none=True)
            for part in step.parts:
                parts.seed(seed, number, part.place)
                if isinstance(statistics, SharedStatistics):
                    statistics.counts = part.share > 0
                with computing(precision, meter.device):
                    mean = loss(model(part.x).float(), part.y) * part.share
                    scaler.scale(mean).backward()
                totals[part.place] += mean.detach() * step.n
            scaler.step(sgd)
            scaler.update()
            n += step.n
            meter.forward(step.n)
            meter.backward(step.n)
    return float(parts.total(totals)) / n


def shuffled_batches(n: int, size: int, generator: torch.Generator) -> list[Int[Tensor, " b"]]:
    """A random order of 0..n-1 in batches; a last batch of one joins the one before it.

    Batch normalisation has no variance of a single image.
    """
    batches = list(torch.randperm(n, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
