"""What tells experiments apart: names for people, digests for finding them again."""

from collections.abc import Mapping
from typing import Any

import torch

from fkal.acquisition import AcquisitionConfig, acquisition
from fkal.algorithm import ALGO_VERSION
from fkal.config import Config, about_data, digest_of
from fkal.core.evidence import FisherScores, Nothing
from fkal.data.config import BiasConfig
from fkal.data.splits import Split
from fkal.models import MODELS


def bias_name(bias: BiasConfig) -> str:
    """`ir100`, `longtail100`, or `byhand-` and a digest; classes cut by hand add theirs."""
    match bias.kind:
        case "imbalance":
            cut = "" if bias.cut is None else f"-cut{digest_of(sorted(bias.cut))[:6]}"
            return f"ir{bias.ratio:.15g}{cut}"
        case "long_tail":
            return f"longtail{bias.ratio:.15g}"
    fractions = {str(k): v for k, v in sorted((bias.fractions or {}).items())}
    return f"byhand-{digest_of(fractions)[:6]}"


def method_name(config: Config) -> str:
    """`random`, `pcc`, `pfk_joint`, as `--method` takes it.

    With `:sum` where the kernel is not the usual product, `@conv2` where the taps are not the
    model's usual ones.
    """
    chosen, needs = config.acquisition, acquisition(config.acquisition.name).needs
    name = chosen.name
    if needs is FisherScores:
        name += f"_{chosen.pseudo_label}"
        name += "" if chosen.combine == AcquisitionConfig.combine else f":{chosen.combine}"
    usual = MODELS[config.model.name].taps if config.model.name in MODELS else ()
    return name if needs is Nothing or chosen.taps == usual else f"{name}@{'+'.join(chosen.taps)}"


def cell_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint`: dataset, bias and method, which experiments of several seeds share."""
    paper = "-paper_protocol" if config.protocol == "paper" else ""
    return f"{config.data.name}-{bias_name(config.bias)}-{method_name(config)}{paper}"


def experiment_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint-s0`."""
    return f"{cell_name(config)}-s{config.seed}"


def fingerprint(config: Config, split: Split, device: torch.device) -> str:
    """Digest of all that the result depends on; settings that the method does not read have no part."""
    entry = acquisition(config.acquisition.name)
    unread = {"combine"} - set(entry.options)
    if entry.needs is not FisherScores:
        unread |= {"pseudo_label"}
    if entry.needs is Nothing:
        unread |= {"taps"}
    tree = _computed(config, split, device)
    tree["acquisition"] = {k: v for k, v in tree["acquisition"].items() if k not in unread}
    return digest_of(tree)


def pretraining_key(config: Config, split: Split, device: torch.device) -> str:
    """Digest of what pretrained weights depend on, which methods and their training do not touch."""
    tree = _computed(config, split, device)
    return digest_of({k: v for k, v in tree.items() if k not in ("acquisition", "train", "protocol", "bias")})


def split_key(config: Config, data_digest: str) -> str:
    """Digest of a split's recipe and of the data it is drawn from."""
    recipe = {
        "bias": config.tree["bias"],
        "validation_per_class": config.data.validation_per_class,
        "data": data_digest,
    }
    return digest_of(recipe)


def _computed(config: Config, split: Split, device: torch.device) -> dict[str, Any]:
    """The configuration and what it is computed on; sums on the CPU depend on the threads that share them."""
    tree: Mapping[str, Any] = config.tree
    threads = config.threads or (torch.get_num_threads() if device.type == "cpu" else None)
    return {
        **tree,
        "data": about_data(tree),
        "threads": threads,
        "split": split.digest,
        "device": device.type,
        "algorithm": ALGO_VERSION,
    }
