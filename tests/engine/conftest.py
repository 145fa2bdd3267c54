"""Tiny problems on 8x8 images, and models that take milliseconds."""

from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.settings import AcquisitionConfig
from fkal.data.images import TensorImages
from fkal.engine.gathering import EvidenceConfig
from fkal.engine.loop import ActiveLearning, Method, Problem
from fkal.engine.metering import Meter
from fkal.engine.settings import TrainConfig, VaalConfig
from fkal.models.ensemble import Ensemble
from fkal.models.registry import build

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)
N_CLASSES = 3


def make_images(n: int, *, seed: int, labels: Tensor | None = None, side: tuple[int, int] = (8, 8)) -> TensorImages:
    """A bright row that tells the class, under noise."""
    draws = torch.Generator().manual_seed(seed)
    if labels is None:
        labels = torch.arange(n) % N_CLASSES
    pixels = torch.randint(0, 160, (n, 1, *side), generator=draws)
    pixels[torch.arange(n), 0, labels] += 90
    return TensorImages(pixels.to(torch.uint8), labels, "abc", mean=(0.5,), std=(0.25,))


def make_model(kind: str, *, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "lenet":
            return build("lenet", SHAPE, N_CLASSES)
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(1, 6, 3),
            "norm": nn.BatchNorm2d(6),
            "relu": nn.ReLU(inplace=True),
            "pool": nn.AdaptiveAvgPool2d(2),
            "flat": nn.Flatten(),
            "dropout": nn.Dropout(0.5 if kind == "with dropout" else 0.0),
            "head": nn.Linear(24, N_CLASSES),
        }
        return nn.Sequential(OrderedDict(layers))


def make_task_model(kind: str, *, seed: int, members: int) -> nn.Module:
    """One model, or an ensemble of models that differ in their seeds; the first is the model alone."""
    models = [make_model(kind, seed=seed + 100 * e) for e in range(members)]
    return models[0] if members == 1 else Ensemble(models)


TINY_VAAL = VaalConfig(iterations=2, batch_size=2, latent=3, width=2)

TAPS = {"lenet": ("conv1", "conv2", "fc1"), "with norm": ("relu", "norm"), "with dropout": ("relu",)}


@pytest.fixture
def images() -> Callable[..., TensorImages]:
    return make_images


@pytest.fixture
def model() -> Callable[..., nn.Module]:
    """`lenet`, `with norm` (batch normalisation, an in-place ReLU) or `with dropout` of its own."""
    return make_model


@pytest.fixture
def meter() -> Meter:
    return Meter(CPU)


@pytest.fixture
def problem() -> Problem:
    """24 pool, 9 validation and 6 test images of 3 classes, the last of them rare."""
    order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
    return Problem(
        train=make_images(33, seed=1),
        test_images=make_images(8, seed=2),
        pool=order[:24],
        validation=order[24:],
        test=torch.tensor([7, 0, 1, 5, 4, 2]),
        minority=(2,),
    )


@pytest.fixture
def learning(problem) -> Callable[..., ActiveLearning]:
    """Algorithm 1 on the tiny problem; `training` are fields of `TrainConfig`, `members` and `samples` E and K."""

    def make(
        name: str = "pfk",
        *,
        kind: str = "lenet",
        taps: Sequence[str] | None = None,
        pseudo_label: str = "joint",
        combine: str = "product",
        budget: int = 4,
        rounds: int = 3,
        training: dict[str, Any] | None = None,
        epoch: str = "last",
        seed: int = 5,
        problem: Problem = problem,
        weights_seed: int = 0,
        theta_0_seed: int = 0,
        members: int = 1,
        samples: int = 3,
    ) -> ActiveLearning:
        entry = ACQUISITIONS[name]
        options = {"combine": combine} if "combine" in entry.options else {}
        if not entry.has_schedule:
            budget, rounds = len(problem.pool) if entry.whole_pool else 0, 1
        return ActiveLearning(
            problem=problem,
            method=Method(
                needs=entry.needs.record,
                select=partial(entry.select, **options),
                config=EvidenceConfig(
                    AcquisitionConfig(
                        taps=tuple(taps or TAPS[kind]),
                        batch_size=5,
                        pseudo_label=pseudo_label,
                        combine=combine,
                        samples=samples,
                    ),
                    TINY_VAAL,
                ),
                budget=budget,
                rounds=rounds,
                random_first=entry.random_first,
                on_validation=entry.validation_only or bool((training or {}).get("on_validation")),
            ),
            model=make_task_model(kind, seed=weights_seed, members=members),
            theta_0=make_task_model(kind, seed=theta_0_seed, members=members).state_dict(),
            oracle=lambda indices: problem.train.labels[indices],
            training=TrainConfig(
                **{"epochs": 3, "batch_size": 3, "lr": 0.05, "decay_epochs": (2,), **(training or {})}
            ),
            epoch=epoch,
            seed=seed,
            device=CPU,
        )

    return make


@pytest.fixture
def outcome() -> Callable[[Generator], Any]:
    """What a generator returns once everything it yields has been taken."""

    def of(generator: Generator) -> Any:
        while True:
            try:
                next(generator)
            except StopIteration as stop:
                return stop.value

    return of
