"""What tells experiments apart: names for people, digests for finding them again."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from fkal.acquisition import AcquisitionConfig, acquisition
from fkal.config.schema import HEAD_ONLY, RANDOM_THETA_0, WHITEN, Config, about_data, digest_of, short_method_name
from fkal.core.pseudo_labels import PSEUDO_LABELS
from fkal.data.config import BiasConfig
from fkal.data.digest import bytes_digest
from fkal.data.splits import Split
from fkal.experiment.versions import ALGO_VERSION, LABEL_REVISIONS
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
    """`random`, `pcc`, `pfk_joint`, as `--method` takes it where a params file leaves the defaults.

    What differs from the defaults is said: `:sum` of the kernel, `:e4` and `:k32` of an ensemble and of Monte Carlo
    passes, `:random_theta_0`, `:head_only`, `@conv2` of the taps.
    """
    chosen = config.acquisition
    reads = acquisition(chosen.name).reads(chosen.pseudo_label)
    name = f"{chosen.name}_{chosen.pseudo_label}" if "pseudo_label" in reads else chosen.name
    marks = {
        chosen.combine: "combine" in reads and chosen.combine != AcquisitionConfig.combine,
        chosen.matching: "matching" in reads and chosen.matching != AcquisitionConfig.matching,
        WHITEN: "whitening" in reads and chosen.whitening != AcquisitionConfig.whitening,
        f"e{chosen.ensemble}": "ensemble" in reads and chosen.ensemble != AcquisitionConfig.ensemble,
        f"k{chosen.samples}": "samples" in reads and chosen.samples != AcquisitionConfig.samples,
        RANDOM_THETA_0: config.pretrain.task == "none",
        HEAD_ONLY: config.train.layers == "head",
    }
    name = ":".join([name, *(mark for mark, is_unusual in marks.items() if is_unusual)])
    usual = MODELS[config.model.name].taps if config.model.name in MODELS else ()
    return f"{name}@{'+'.join(chosen.taps)}" if "taps" in reads and chosen.taps != usual else name


def cell_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint`: dataset, bias and method, which experiments of several seeds share."""
    paper = "-paper_protocol" if config.protocol == "paper" else ""
    held_out = f"-holdout{config.holdout}" if config.holdout else ""
    return f"{config.data.name}-{bias_name(config.bias)}-{method_name(config)}{paper}{held_out}"


def experiment_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint-s0`."""
    return f"{cell_name(config)}-s{config.seed}"


def method_title(config: Config) -> str:
    """`pfk_joint mnist ir100`, as MLflow shows the seeds of a cell together: what tells methods apart comes first."""
    return " ".join([_method_word(config), *_title_words(config)])


def experiment_title(config: Config) -> str:
    """`pfk_joint s0 mnist ir100`, as MLflow shows an experiment."""
    return " ".join([_method_word(config), f"s{config.seed}", *_title_words(config)])


def round_title(config: Config, b: int) -> str:
    """`pfk_joint s0 round 3`, as MLflow shows a round."""
    return f"{_method_word(config)} s{config.seed} round {b}"


def _method_word(config: Config) -> str:
    return short_method_name(method_name(config))


def _title_words(config: Config) -> list[str]:
    paper = ["paper_protocol"] if config.protocol == "paper" else []
    held_out = [f"holdout{config.holdout}"] if config.holdout else []
    return [config.data.name, bias_name(config.bias), *paper, *held_out]


METHOD_SETTINGS = frozenset(
    {
        "combine",
        "pseudo_label",
        "matching",
        "whitening",
        "taps",
        "samples",
        "ensemble",
        "view_degrees",
        "view_noise",
    }
)
"""Settings of the acquisition that only some methods read."""

AFTER_DESCRIPTORS = frozenset({"combine", "matching", "whitening"})
"""Of these what bears on nothing but what is made of descriptors and labels; labels that compare by R_zg go by
`combine` as well."""

CAME_LATER: Mapping[str, Any] = MappingProxyType(
    {"matching": AcquisitionConfig.matching, "whitening": AcquisitionConfig.whitening}
)
"""Settings of the acquisition that, left as they were, change no digest."""


def fingerprint(config: Config, split: Split, device: torch.device) -> str:
    """Digest of all that the result depends on; settings that the method does not read have no part."""
    tree = _read(config, _computed(config, split, device))
    if config.train.layers == "all":  # a setting that came later: left as it was, it changes no digest
        tree["train"] = {k: v for k, v in tree["train"].items() if k != "layers"}
    if not config.holdout:  # likewise
        del tree["holdout"]
    tree["acquisition"].update(revision(config))
    return digest_of(tree)


def revision(config: Config) -> dict[str, int]:
    """The revision of the labels that the method goes by; nothing where there are none or they are of the first."""
    name = config.acquisition.pseudo_label
    if name not in LABEL_REVISIONS or "pseudo_label" not in acquisition(config.acquisition.name).reads(name):
        return {}
    return {"pseudo_label_revision": LABEL_REVISIONS[name]}


def algorithm(config: Config) -> str:
    """The version of all that bears on the result: `2`, or `2, pseudo_label_revision 2`."""
    return ", ".join([str(ALGO_VERSION), *(f"{name} {n}" for name, n in revision(config).items())])


def settings_read(config: Config) -> dict[str, Any]:
    """The settings that an experiment reads, whatever its seed and device."""
    return {k: v for k, v in _read(config, config.tree).items() if k not in ("seed", "device")}


def read_params(config: Config) -> dict[str, Any]:
    """Dotted keys and values of the settings that the experiment reads, for a tracking store."""
    unread = _unread(config)
    ignores_vaal = "vaal" not in _method_reads(config)
    return {
        key: value
        for key, value in config.flat.items()
        if key not in {f"acquisition.{name}" for name in unread} and not (ignores_vaal and key.startswith("vaal."))
    }


def method_digest(config: Config) -> str:
    """Digest of the settings that all seeds of a method share; where its images lie is not one of them."""
    return digest_of({**settings_read(config), "data": about_data(config.tree)})


def settings_of_theta_0(config: Config) -> dict[str, Any]:
    """The settings that pretrained weights are made of, with those of the split, whatever the seed and device."""
    ignored = PRETRAINING_IGNORES - {"bias"} | {"seed", "device"}
    return {k: v for k, v in config.tree.items() if k not in ignored}


def settings_of_split(config: Config) -> dict[str, Any]:
    """The settings that a split is drawn by, whatever its seed."""
    return {k: v for k, v in config.tree.items() if k in ("data", "bias")}


def _read(config: Config, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's tree without the settings that its method does not read."""
    unread, reads = _unread(config), _method_reads(config)
    left = {k: v for k, v in _as_before(tree["acquisition"]).items() if k not in unread}
    return {k: v for k, v in {**tree, "acquisition": left}.items() if k != "vaal" or "vaal" in reads}


def _method_reads(config: Config) -> frozenset[str]:
    return frozenset(acquisition(config.acquisition.name).reads(config.acquisition.pseudo_label))


def _unread(config: Config) -> frozenset[str]:
    """Settings of the acquisition that its method does not read."""
    whole_pool = {"budget", "rounds"} if acquisition(config.acquisition.name).whole_pool else set[str]()
    return METHOD_SETTINGS - _method_reads(config) | whole_pool


def _as_before(acquisition: Mapping[str, Any]) -> dict[str, Any]:
    """Without settings that came later and are left as they were."""
    return {k: v for k, v in acquisition.items() if k not in CAME_LATER or v != CAME_LATER[k]}


PRETRAINING_IGNORES = frozenset({"acquisition", "vaal", "train", "protocol", "bias", "holdout"})


def pretraining_key(config: Config, split: Split, device: torch.device, member: int = 0) -> str:
    """Digest of what pretrained weights depend on, which methods and their training do not touch."""
    tree = {k: v for k, v in _computed(config, split, device).items() if k not in PRETRAINING_IGNORES}
    return digest_of({**tree, "member": member} if member else tree)


def split_key(config: Config, data_digest: str) -> str:
    """Digest of a split's recipe and of the data it is drawn from."""
    recipe = {
        "bias": config.tree["bias"],
        "validation_per_class": config.data.validation_per_class,
        "data": data_digest,
    }
    return digest_of(recipe)


def about_descriptors(config: Config, data_digest: str, device: torch.device) -> dict[str, Any]:
    """What descriptors depend on besides weights, indices and taps."""
    return {
        "data": data_digest,
        "model": config.model.name,
        "threads": _threads(config, device),
        "device": device.type,
        "algorithm": ALGO_VERSION,
    }


def about_labels(config: Config, validation: Tensor) -> dict[str, Any]:
    """What estimated labels depend on besides: how they are estimated, from which validation images, by which draws."""
    bear = METHOD_SETTINGS & _read_by_descriptors(config)
    chosen = {key: value for key, value in _as_before(config.tree["acquisition"]).items() if key in bear}
    indices = bytes_digest([validation.to(torch.int64).numpy().tobytes()])
    return {**chosen, **revision(config), "validation": indices, "seed": config.seed}


def settings_of_first_descriptors(config: Config) -> dict[str, Any]:
    """The settings that the descriptors of a first iteration are made of, whatever the seed and device."""
    is_random = acquisition(config.acquisition.name).random_first
    reads = {"name"} if is_random else {"name", "batch_size"} | _read_by_descriptors(config)
    settings = _as_before(config.tree["acquisition"])
    chosen = {key: value for key, value in settings.items() if key in reads}
    one = {"budget": 1, "rounds": 1}
    return {**settings_of_theta_0(config), "acquisition": chosen | one, "holdout": config.holdout}


def _read_by_descriptors(config: Config) -> set[str]:
    """Settings of the acquisition that bear on its descriptors or on the labels that are estimated with them."""
    label = config.acquisition.pseudo_label
    reads = acquisition(config.acquisition.name).reads(label)
    by_kernel = {"combine"} if "pseudo_label" in reads and PSEUDO_LABELS[label].by_kernel else set()
    return set(reads) - (AFTER_DESCRIPTORS - by_kernel)


def _threads(config: Config, device: torch.device) -> int | None:
    """Sums on the CPU depend on the threads that share them."""
    return config.threads or (torch.get_num_threads() if device.type == "cpu" else None)


def _computed(config: Config, split: Split, device: torch.device) -> dict[str, Any]:
    """The configuration and what it is computed on."""
    tree: Mapping[str, Any] = config.tree
    return {
        **tree,
        "data": about_data(tree),
        "threads": _threads(config, device),
        "split": split.digest,
        "device": device.type,
        "algorithm": ALGO_VERSION,
    }
