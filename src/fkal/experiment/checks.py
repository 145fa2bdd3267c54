"""Impossible combinations, refused before any work: the key, the value, what is allowed."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fkal.acquisition.evidence_kinds import PREDICTIVE_INFORMATION, UNCERTAINTY
from fkal.acquisition.registry import acquisition_of
from fkal.acquisition.settings import AcquisitionConfig
from fkal.config.schema import Config, ConfigError, configured
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.randomness import stream
from fkal.data import gpu_decoding
from fkal.data.datasets import Dataset
from fkal.data.splits import Split, hold_out
from fkal.engine.cross_fitting import folds
from fkal.engine.precision import resolved
from fkal.engine.processes import current_processes
from fkal.models.dropout import MonteCarloDropout
from fkal.models.head import head_width
from fkal.models.linear_head import LinearHead
from fkal.models.registry import head_name
from fkal.models.taps import tap_widths
from fkal.models.vaal import Vae

MOMENT_BYTES = 16 << 30
"""What the moments of one batch may take."""

MOMENT_ARRAYS = 10
"""So many arrays of their size exist at once (8.3 to 9.3 measured, 4.4 to 5.4 of few views)."""


def refuse_infeasible(config: Config, dataset: Dataset, split: Split, model: nn.Module, device: torch.device) -> None:
    """Raises ConfigError for what one of the values alone does not show to be wrong."""
    _refuse_unknown_precision(config, device)
    _refuse_unable_to_decode(config, device)
    entry = acquisition_of(config.acquisition)
    reads = entry.reads(config.acquisition.pseudo_label)
    shape = (model.head.in_features, 1, 1) if isinstance(model, LinearHead) else dataset.train.shape
    _refuse_holdout(config, min(split.class_counts["validation"]))
    if config.holdout:
        _refuse_split_groups(config, dataset, split)
    if config.train.on_validation or entry.validation_only:
        _refuse_lone_fold(dataset, split)
    _refuse_parts(config, model)
    _require_batch_of_two(config, model, has_budget=entry.has_schedule and not config.train.on_validation)
    if config.pretrains:
        configured("model.name", lambda _: head_name(model), config.model.name, "; or set pretrain.task=none")
    if entry.needs is UNCERTAINTY:
        _refuse_unsampled(config.acquisition, model)
    if entry.needs is PREDICTIVE_INFORMATION:
        _refuse_lone_network(config.acquisition, model)
    if entry.needs.at_head:
        configured("model.name", lambda _: head_width(model, shape), config.model.name)
        _refuse_float32_device("name", config.acquisition.name, device)
    if "vaal" in reads:
        _require_min_size(dataset.train.shape)
    if "taps" in reads:
        widths = configured(
            "acquisition.taps",
            lambda taps: tap_widths(model, taps, shape, config.features.tokens),
            config.acquisition.taps,
        )
        if "pseudo_label" in reads:
            label = PSEUDO_LABELS[config.acquisition.pseudo_label]
            if label.views != "none" or label.of_pool:
                _refuse_float32_device("pseudo_label", config.acquisition.pseudo_label, device)
            _refuse_boundless_moments(config.acquisition, widths, len(dataset.classes))
        narrow = [tap for tap, width in widths.items() if width < 2]
        if narrow:
            raise ConfigError(
                f"acquisition.taps: {narrow} return a single number, which has no correlation; tap others"
            )


def _refuse_parts(config: Config, model: nn.Module) -> None:
    """Parts of a batch that one process computes one after the other cannot share what normalises them."""
    parts = config.batch_parts
    if parts == 1 or config.is_frozen:
        return
    for key, size in (("train", config.train.batch_size), ("pretrain", config.pretrain.batch_size)):
        if parts > size and (key == "train" or config.pretrains):
            raise ConfigError(
                f"batch_parts = {parts}: {key}.batch_size = {size} has fewer images; set it to {parts} or more"
            )
    learns = config.train.layers == "all" or config.pretrains
    if (
        current_processes().count != parts
        and learns
        and any(isinstance(layer, _BatchNorm) for layer in model.modules())
    ):
        raise ConfigError(
            f"batch_parts = {parts}: {config.model.name} has batch normalisation, which sees the whole batch at once; "
            f"run it by torchrun with {parts} processes, or set batch_parts=1"
        )


def refuse_unfit_for_frozen(config: Config) -> None:
    """Raises ConfigError for what a head on embeddings has no images, no epochs or no starting point for."""
    if not config.is_frozen:
        if config.features.pca is not None:
            raise ConfigError(
                f"features.pca = {config.features.pca}: only a frozen embedding is reduced; set train.layers=frozen"
            )
        return
    entry, label = acquisition_of(config.acquisition), PSEUDO_LABELS[config.acquisition.pseudo_label]
    reads = entry.reads(config.acquisition.pseudo_label)
    if "vaal" in reads:
        raise ConfigError(
            "acquisition.name = 'vaal': it trains on images, and a frozen run has embeddings; take another method"
        )
    if "pseudo_label" in reads and label.views == "perturbed":
        raise ConfigError(
            f"acquisition.pseudo_label = {config.acquisition.pseudo_label!r}: it turns images, and a frozen run has "
            "embeddings; take another pseudo-label"
        )
    if "ensemble" in reads and config.acquisition.ensemble > 1:
        raise ConfigError(
            f"acquisition.ensemble = {config.acquisition.ensemble}: heads on the same embeddings are all the same; "
            "set acquisition.ensemble=1"
        )
    if config.epoch != "last":
        raise ConfigError("epoch = 'best_on_test': a frozen run has no epochs to choose from; set epoch=last")


def _refuse_unknown_precision(config: Config, device: torch.device) -> None:
    """Raises ConfigError for what the device does not compute in."""
    for key, precision in (
        ("features.precision", config.features.precision),
        ("pretrain.precision", config.pretrain.precision),
        ("train.precision", config.train.precision),
    ):
        configured(key, lambda named: resolved(named, device), precision)


def _refuse_unable_to_decode(config: Config, device: torch.device) -> None:
    """Raises ConfigError where the GPU is to decode and cannot."""
    if config.data.decoding == "gpu" and (why := gpu_decoding.why_not(device)) is not None:
        raise ConfigError(f"data.decoding = 'gpu': {why}; set data.decoding=draft, or leave it out")


def refuse_beyond_pool(config: AcquisitionConfig, pool: int) -> None:
    """Raises ConfigError where the pool has fewer images than the rounds ask for."""
    asked = config.budget * config.rounds
    if not pool:
        raise ConfigError("the pool has no images that can be used; bring them back, or add others")
    if config.budget > pool:
        raise ConfigError(f"acquisition.budget = {config.budget}: the pool has {pool} images; give at most {pool}")
    if asked > pool:
        raise ConfigError(
            f"acquisition.rounds = {config.rounds}: {config.rounds} x budget {config.budget} = {asked} labels, "
            f"but the pool has {pool} images; give at most {pool // config.budget} rounds"
        )


def doubts(config: Config) -> list[str]:
    """Warnings on what can be run and is not known to pay."""
    steers = "pseudo_label" in acquisition_of(config.acquisition).reads(config.acquisition.pseudo_label)
    if not (config.train.on_validation and steers) or config.acquisition.pseudo_label == "true":
        return []
    return [
        "warning: train.on_validation is true; in our tables no method that steers by validation images is ahead of "
        "random picks then, and some are behind: compare with --method random,base"
    ]


def _refuse_holdout(config: Config, per_class: int) -> None:
    """Something has to stay for the method of the rarest class, and nothing may be chosen by what is measured."""
    if config.holdout and config.holdout >= per_class:
        raise ConfigError(
            f"holdout = {config.holdout}: the validation set has {per_class} images per class and the method "
            f"needs some; give at most {per_class - 1}"
        )
    if config.holdout and config.epoch != "last":
        raise ConfigError(f"holdout = {config.holdout}: epoch=best_on_test chooses by what is measured; set epoch=last")


def _refuse_split_groups(config: Config, dataset: Dataset, split: Split) -> None:
    """Raises ConfigError where whole groups cannot be held out."""
    try:
        hold_out(split.validation, dataset, config.holdout, stream(config.seed, "tune", "holdout"))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _refuse_lone_fold(dataset: Dataset, split: Split) -> None:
    """Raises ConfigError where validation images cannot be cross-fitted."""
    groups = None if dataset.groups is None else dataset.groups[split.validation]
    try:
        folds(dataset.train.labels[split.validation], groups, torch.Generator().manual_seed(0))
    except ValueError as error:
        raise ConfigError(f"train.on_validation: {error}") from error


def _refuse_unsampled(config: AcquisitionConfig, model: nn.Module) -> None:
    """Uncertainty needs passes that differ."""
    if config.samples * config.ensemble < 2:
        raise ConfigError("acquisition.samples = 1: one pass agrees with itself; give at least 2, or an ensemble")
    if config.samples > 1 and not any(isinstance(layer, MonteCarloDropout) for layer in model.modules()):
        raise ConfigError(
            f"acquisition.name = {config.name!r}: the model has no MonteCarloDropout layer to sample; "
            "give it one (fkal.models.dropout), or set acquisition.samples=1 and acquisition.ensemble=2 or more"
        )


def _refuse_lone_network(config: AcquisitionConfig, model: nn.Module) -> None:
    """Networks drawn by dropout are what predictions are correlated over."""
    if config.samples < 2:
        raise ConfigError("acquisition.samples = 1: one network has nothing to be compared with; give at least 2")
    if not any(isinstance(layer, MonteCarloDropout) for layer in model.modules()):
        raise ConfigError(
            f"acquisition.name = {config.name!r}: the model has no MonteCarloDropout layer to draw networks by; "
            "give it one (fkal.models.dropout)"
        )


def _refuse_float32_device(key: str, value: str, device: torch.device) -> None:
    """Of an image that the model is certain of, gradients under every class nearly cancel and probabilities round.

    Class frequencies, too, are estimated in float64.
    """
    if device.type == "mps":
        raise ConfigError(f"acquisition.{key} = {value!r}: it needs float64, which MPS has not; set device=cpu")


def _require_min_size(shape: tuple[int, int, int]) -> None:
    """VAAL's autoencoder halves an image at least once."""
    try:
        with torch.device("meta"):
            Vae(shape, latent=1, width=1)
    except ValueError as error:
        raise ConfigError(f"acquisition.name = 'vaal': {error}") from error


def _refuse_boundless_moments(config: AcquisitionConfig, widths: Mapping[str, int], n_classes: int) -> None:
    """Mutual information needs views that differ, and in full holds l x l moments of each image and class, or as many
    views of l units where these are fewer."""
    if not config.pseudo_label.startswith("mutual_information"):
        return
    if config.samples < 2:
        raise ConfigError(f"acquisition.samples = {config.samples}: one view has no covariance; give at least 2")
    is_full = config.pseudo_label == "mutual_information"
    entries = sum(width * min(width, config.samples) if is_full else width for width in widths.values())
    size = 8 * MOMENT_ARRAYS * config.batch_size * n_classes * entries
    if size > MOMENT_BYTES:
        other = " or take mutual_information_diagonal" if is_full else ""
        raise ConfigError(
            f"acquisition.batch_size = {config.batch_size}: the moments of so many images under {n_classes} classes "
            f"at taps of {', '.join(map(str, widths.values()))} take {size / 2**30:.0f} GiB, "
            f"more than {MOMENT_BYTES >> 30}; lower it, tap narrower layers{other}"
        )


def _require_batch_of_two(config: Config, model: nn.Module, *, has_budget: bool) -> None:
    """Batch normalisation has no variance of a single image."""
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        return
    for key, value in (
        ("train.batch_size", config.train.batch_size),
        ("acquisition.budget", config.acquisition.budget if has_budget else 2),
    ):
        if value == 1:
            raise ConfigError(f"{key} = 1: {config.model.name} normalises over a batch; give at least 2")
