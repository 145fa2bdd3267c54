"""Digests of what an experiment's results, and the files that experiments share, depend on.

`docs/caches.md` has a table of them; `tests/experiment/test_fingerprint.py` perturbs every setting and input.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fkal.config.schema import Config, about_data, digest_of
from fkal.core.precision_names import Precision
from fkal.data.digest import bytes_digest
from fkal.data.scaling import View
from fkal.data.splits import Split
from fkal.engine.precision import resolved
from fkal.experiment.names import (
    METHOD_SETTINGS,
    PRETRAINING_IGNORES,
    bias_name,
    dataset_name,
    ensemble_size,
    label_revision,
    read_by_descriptors,
    revision,
    tree_read,
    without_later_defaults,
)
from fkal.experiment.versions import ALGO_VERSION, TOKEN_REVISION


def fingerprint(config: Config, split: Split, device: torch.device, weights: str = "") -> str:
    """Digest of all that the result depends on; settings that the method does not read have no part.

    `weights` is the SHA-256 of pretrained weights, which stands for the place that they come from.
    """
    tree = tree_read(config, _computed(config, split, device))
    if weights:
        tree["model"] = {**tree["model"], "weights": weights}
    if config.train.layers == "all":  # a setting that came later: left as it was, it changes no digest
        tree["train"] = {k: v for k, v in tree["train"].items() if k != "layers"}
    if not config.holdout:  # likewise
        del tree["holdout"]
    tree["acquisition"].update(revision(config))
    if device.type == "cuda" and ensemble_size(config) > 1:
        tree["members"] = "together"  # how a GPU trains them; sums round otherwise than one by one
    return digest_of(tree)


def pretraining_key(config: Config, split: Split, device: torch.device, member: int = 0) -> str:
    """Digest of what pretrained weights depend on, which methods and their training do not touch."""
    tree = {k: v for k, v in _computed(config, split, device).items() if k not in PRETRAINING_IGNORES}
    return digest_of({**tree, "member": member} if member else tree)


def split_file_name(config: Config, data_digest: str) -> str:
    """`mnist-ir100-s0-1a2b3c4d.json`: dataset, bias and seed, and a digest of the recipe and the data drawn from."""
    data = about_data(config.tree)
    recipe: dict[str, Any] = {
        "bias": config.tree["bias"],
        **{key: data[key] for key in ("validation_per_class", "validation", "per_class", "groups") if key in data},
        "data": data_digest,
        **({} if config.data.rare is None else {"rare": sorted(map(str, config.data.rare))}),
    }
    return f"{dataset_name(config.data)}-{bias_name(config.bias)}-s{config.seed}-{digest_of(recipe)[:8]}.json"


def about_descriptors(config: Config, data_digest: str, device: torch.device) -> dict[str, Any]:
    """What descriptors depend on besides weights, indices, taps and batches.

    The digest of the data covers pixels as they are on disk or decoded; how they become the model's inputs is in
    the dataset's name, which has a normalisation of its own, and by what is set instead of it.
    """
    return {
        "data": data_digest,
        "dataset": config.data.name,
        **{name: config.tree["data"][name] for name in ("image_size", "mean", "std")},
        **({} if config.data.interpolation is None else {"interpolation": config.data.interpolation}),
        **({} if config.data.decoding is None else {"decoding": config.data.decoding}),
        "model": config.model.name,
        "threads": _threads(config, device),
        "device": device.type,
        "algorithm": ALGO_VERSION,
        **({} if config.features.tokens is None else {"tokens": config.features.tokens}),
        **_precision(config.features.precision, device),
        **({"token_revision": TOKEN_REVISION} if config.model.name.startswith("vit_") else {}),
    }


def about_embeddings(
    config: Config, shape: tuple[int, int, int], view: View, weights: str, device: torch.device
) -> dict[str, Any]:
    """What an embedding depends on besides the content of its image."""
    return {
        "what": "embedding",
        "model": config.model.name,
        "weights": weights,
        "tokens": config.features.tokens,
        "shape": list(shape),
        "interpolation": view.interpolation,
        "mean": list(view.mean),
        "std": list(view.std),
        "threads": _threads(config, device),
        "device": device.type,
        "algorithm": ALGO_VERSION,
        **_precision(config.features.precision, device),
        **({"compiled": True} if config.model.compile else {}),
        **({} if config.data.decoding is None else {"decoding": config.data.decoding}),
    }


def about_labels(config: Config, validation: Tensor) -> dict[str, Any]:
    """What estimated labels depend on besides: how they are estimated, from which validation images, by which draws."""
    bear = METHOD_SETTINGS & read_by_descriptors(config)
    chosen = {key: value for key, value in without_later_defaults(config.tree["acquisition"]).items() if key in bear}
    indices = bytes_digest([validation.to(torch.int64).numpy().tobytes()])
    return {**chosen, **label_revision(config), "validation": indices, "seed": config.seed}


def _threads(config: Config, device: torch.device) -> int | None:
    """Sums on the CPU depend on the threads that share them."""
    return config.threads or (torch.get_num_threads() if device.type == "cpu" else None)


def _precision(precision: Precision | None, device: torch.device) -> dict[str, str]:
    """As the device has it: `mixed` is not the same everywhere. Nothing where it is left to torch."""
    found = resolved(precision, device)
    return {} if found is None else {"precision": found}


def _computed(config: Config, split: Split, device: torch.device) -> dict[str, Any]:
    """The configuration and what it is computed on."""
    tree: Mapping[str, Any] = config.digest_tree
    precisions = {
        section: {**tree[section], **_precision(given, device)}
        for section in ("features", "pretrain", "train")
        if (given := tree.get(section, {}).get("precision")) is not None
    }
    return {
        **tree,
        **precisions,
        "data": about_data(tree),
        "threads": _threads(config, device),
        "split": split.digest,
        "device": device.type,
        "algorithm": ALGO_VERSION,
    }
