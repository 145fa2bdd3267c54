"""Impossible combinations, refused before any work: the key, the value, what is allowed."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from fkal.acquisition import AcquisitionConfig, acquisition
from fkal.config import Config, ConfigError
from fkal.core.evidence import Nothing
from fkal.data.datasets import Dataset
from fkal.data.splits import Split
from fkal.models import head_name, tap_widths

V = TypeVar("V")
R = TypeVar("R")


def refuse_infeasible(config: Config, dataset: Dataset, split: Split, model: nn.Module) -> None:
    """Raises ConfigError for what one of the values alone does not show to be wrong."""
    _refuse_beyond_pool(config.acquisition, len(split.pool))
    _refuse_lonely_images(config, model)
    if config.pretrain.task == "rotation":
        configured("model.name", lambda _: head_name(model), config.model.name, "; or set pretrain.task=none")
        _refuse_oblong(dataset.train.shape)
    if acquisition(config.acquisition.name).needs is not Nothing:
        widths = configured(
            "acquisition.taps", lambda taps: tap_widths(model, taps, dataset.train.shape), config.acquisition.taps
        )
        narrow = [tap for tap, width in widths.items() if width < 2]
        if narrow:
            raise ConfigError(
                f"acquisition.taps: {narrow} return a single number, which has no correlation; tap others"
            )


def configured(key: str, make: Callable[[V], R], value: V, way_out: str = "") -> R:
    """`make(value)`, its refusal being one of the configuration's `key`."""
    try:
        return make(value)
    except ValueError as error:
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{key} = {shown!r}: {error}{way_out}") from error


def _refuse_beyond_pool(config: AcquisitionConfig, pool: int) -> None:
    asked = config.budget * config.rounds
    if config.budget > pool:
        raise ConfigError(f"acquisition.budget = {config.budget}: the pool has {pool} images; give at most {pool}")
    if asked > pool:
        raise ConfigError(
            f"acquisition.rounds = {config.rounds}: {config.rounds} x budget {config.budget} = {asked} labels, "
            f"but the pool has {pool} images; give at most {pool // config.budget} rounds"
        )


def _refuse_lonely_images(config: Config, model: nn.Module) -> None:
    """Batch normalisation has no variance of a single image."""
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        return
    for key, value in (
        ("train.batch_size", config.train.batch_size),
        ("acquisition.budget", config.acquisition.budget),
    ):
        if value == 1:
            raise ConfigError(f"{key} = 1: {config.model.name} normalises over a batch; give at least 2")


def _refuse_oblong(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    if height != width:
        raise ConfigError(
            f"pretrain.task = 'rotation': images of {height}x{width} cannot be turned by 90 degrees; "
            "set data.image_size, or pretrain.task=none"
        )
