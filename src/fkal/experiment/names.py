"""Names for people, and the settings that an experiment reads. Imports no torch."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from fkal.acquisition.registry import acquisition, acquisition_of
from fkal.acquisition.settings import AcquisitionConfig
from fkal.config.method_spec import HEAD_ONLY, RANDOM_THETA_0, WHITEN, short_method_name
from fkal.config.schema import Config, about_data, digest_of
from fkal.core.labels import PSEUDO_LABELS
from fkal.data.registry import DATASETS
from fkal.data.settings import EMBEDDINGS, BiasConfig, DataConfig
from fkal.engine.settings import TrainConfig
from fkal.experiment.versions import (
    ALGO_VERSION,
    CROSS_FIT_REVISION,
    LABEL_REVISIONS,
    MATCHING_REVISIONS,
    METHOD_REVISIONS,
    TOKEN_REVISION,
)
from fkal.models.settings import usual_taps

FROZEN = "frozen"
"""In names, of experiments that train a head on embeddings."""

READ_BY_FROZEN = frozenset({"layers", "loss", "on_validation"})
"""Settings of `train` that the training of a frozen run's head reads."""

LONGEST_TREE = 60
"""Characters of a folder's name that stay in the name of its dataset."""


def dataset_name(data: DataConfig) -> str:
    """What people and files call the dataset: its registered name, of an own tree the last part of its folder, of own
    embeddings the name of their file without its ending.

    A tree that is called as a registered dataset is gets `folder-` in front. What a name cannot hold becomes `-`,
    with a digest behind it, so that two trees stay two.
    """
    if data.name == EMBEDDINGS and data.embeddings is not None:
        last = PurePath(data.embeddings).stem
    elif data.name != "folder" or data.folder is None:
        return data.name
    else:
        last = PurePath(data.folder).name
        if last in ("", "..", "~"):
            last = Path(data.root, data.folder).resolve().name or "root"
    fit = re.sub(r"[^A-Za-z0-9_.+-]+", "-", last)[:LONGEST_TREE]
    if fit != last:
        fit = f"{fit}-{hashlib.sha256(os.fsencode(last)).hexdigest()[:6]}"
    return f"folder-{fit}" if fit in DATASETS or not re.match("[A-Za-z0-9_]", fit) else fit


def bias_name(bias: BiasConfig) -> str:
    """`ir100`, `longtail100`, `natural`, or `byhand-` and a digest; classes that are set to be cut add theirs."""
    match bias.kind:
        case "imbalance":
            listed = f"-{bias.cut}" if isinstance(bias.cut, str) else f"-cut{digest_of(sorted(bias.cut or ()))[:6]}"
            cut = "" if bias.cut is None else listed
            return f"ir{bias.ratio:.15g}{cut}"
        case "long_tail":
            return f"longtail{bias.ratio:.15g}"
        case "none":
            return "natural"
    fractions = {str(k): v for k, v in sorted((bias.fractions or {}).items())}
    return f"byhand-{digest_of(fractions)[:6]}"


def method_name(config: Config) -> str:
    """`random`, `pcc`, `pfk_joint`, as `--method` takes it where a params file leaves the defaults.

    What differs from the defaults is said: `:sum` of the kernel, `:e4` and `:k32` of an ensemble and of Monte Carlo
    passes, `:random_theta_0`, `:head_only`, `@conv2` of the taps.
    """
    chosen = config.acquisition
    reads = acquisition_of(chosen).reads(chosen.pseudo_label)
    name = f"{chosen.name}_{chosen.pseudo_label}" if "pseudo_label" in reads else chosen.name
    marks = {
        chosen.combine: "combine" in reads and chosen.combine != AcquisitionConfig.combine,
        chosen.matching: "matching" in reads and chosen.matching != AcquisitionConfig.matching,
        WHITEN: "whitening" in reads and chosen.whitening != AcquisitionConfig.whitening,
        f"e{chosen.ensemble}": "ensemble" in reads and chosen.ensemble != AcquisitionConfig.ensemble,
        f"k{chosen.samples}": "samples" in reads and chosen.samples != AcquisitionConfig.samples,
        RANDOM_THETA_0: config.pretrain.task == "none" and not config.has_given_weights,
        HEAD_ONLY: config.train.layers == "head",
    }
    name = ":".join([name, *(mark for mark, is_unusual in marks.items() if is_unusual)])
    usual = usual_taps(config.model.name, config.train.layers)
    return f"{name}@{'+'.join(chosen.taps)}" if "taps" in reads and chosen.taps != usual else name


def cell_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint`: dataset, bias and method, which experiments of several seeds share."""
    return _cell_of(config, method_name(config))


def experiment_name(config: Config) -> str:
    """`mnist-ir100-pfk_joint-s0`."""
    return f"{cell_name(config)}-s{config.seed}"


def shown_name(config: Config) -> str:
    """`digits-ir20-fisher_coverage-s0`: `experiment_name` with the method's alias, for people."""
    return f"{_cell_of(config, _method_word(config))}-s{config.seed}"


def ensemble_size(config: Config) -> int:
    """The paper's E for a method that samples an ensemble, else 1."""
    chosen = config.acquisition
    return chosen.ensemble if "ensemble" in acquisition_of(chosen).reads(chosen.pseudo_label) else 1


def method_title(config: Config) -> str:
    """`pfk_joint mnist ir100`, as MLflow shows the seeds of a cell together: what tells methods apart comes first."""
    return " ".join([_method_word(config), *_title_words(config)])


def experiment_title(config: Config) -> str:
    """`pfk_joint s0 mnist ir100`, as MLflow shows an experiment."""
    return " ".join([_method_word(config), f"s{config.seed}", *_title_words(config)])


def round_title(config: Config, b: int) -> str:
    """`pfk_joint s0 round 3`, as MLflow shows a round."""
    return f"{_method_word(config)} s{config.seed} round {b}"


def _cell_of(config: Config, method: str) -> str:
    paper = "-paper_protocol" if config.protocol == "paper" else ""
    held_out = f"-holdout{config.holdout}" if config.holdout else ""
    training = "".join(f"-{word}" for word in _training_words(config))
    return f"{dataset_name(config.data)}-{bias_name(config.bias)}-{method}{paper}{training}{held_out}"


def _method_word(config: Config) -> str:
    return short_method_name(method_name(config))


def _title_words(config: Config) -> list[str]:
    paper = ["paper_protocol"] if config.protocol == "paper" else []
    held_out = [f"holdout{config.holdout}"] if config.holdout else []
    return [dataset_name(config.data), bias_name(config.bias), *paper, *_training_words(config), *held_out]


def _training_words(config: Config) -> list[str]:
    frozen = [FROZEN] if config.is_frozen else []
    return [*frozen, *training_words(config.train.loss, on_validation=config.train.on_validation)]


def training_words(loss: str, *, on_validation: bool) -> list[str]:
    """What names say of a training that is not the usual one: `balanced_softmax`, `on_validation`."""
    unusual_loss = [] if loss == TrainConfig.loss else [loss]
    return [*unusual_loss, *(["on_validation"] if on_validation else [])]


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
        "parts",
    }
)
"""Settings of the acquisition that only some methods read."""

AFTER_DESCRIPTORS = frozenset({"combine", "matching", "whitening", "parts"})
"""Of these, what changes only what is made of descriptors and labels; labels that compare by R_zg go by
`combine` as well."""

DEFAULTS_LEFT_OUT_OF_DIGEST: Mapping[str, Any] = MappingProxyType(
    {"matching": AcquisitionConfig.matching, "whitening": AcquisitionConfig.whitening}
)
"""Settings of the acquisition that, left as they were, change no digest."""


PRETRAINING_IGNORES = frozenset({"acquisition", "vaal", "train", "protocol", "bias", "holdout", "features"})


def label_revision(config: Config) -> dict[str, int]:
    """The revisions of labels and of tokens that the method goes by; nothing where these are of the first."""
    name = config.acquisition.pseudo_label
    reads = acquisition_of(config.acquisition).reads(name)
    labels = {"pseudo_label_revision": LABEL_REVISIONS[name]} if name in LABEL_REVISIONS else {}
    taps_tokens = "taps" in reads and config.model.name.startswith("vit_")
    return {
        **(labels if "pseudo_label" in reads else {}),
        **({"token_revision": TOKEN_REVISION} if taps_tokens else {}),
    }


def revision(config: Config) -> dict[str, int]:
    """The revisions of labels, method, matching and cross-fitting; without those that are still the first."""
    name, matching = config.acquisition.name, config.acquisition.matching
    found = label_revision(config)
    if name in METHOD_REVISIONS:
        found["method_revision"] = METHOD_REVISIONS[name]
    if matching in MATCHING_REVISIONS and "matching" in _method_reads(config):
        found["matching_revision"] = MATCHING_REVISIONS[matching]
    if config.is_frozen and config.train.on_validation:
        found["cross_fit_revision"] = CROSS_FIT_REVISION
    return found


def algorithm(config: Config) -> str:
    """The version of all that changes the result: `2`, or `2, pseudo_label_revision 2`."""
    return ", ".join([str(ALGO_VERSION), *(f"{name} {n}" for name, n in revision(config).items())])


def settings_read(config: Config) -> dict[str, Any]:
    """The settings that an experiment reads, whatever its seed and device."""
    return {k: v for k, v in tree_read(config, _tree_of_stages(config)).items() if k not in ("seed", "device")}


def read_params(config: Config) -> dict[str, Any]:
    """Dotted keys and values of the settings that the experiment reads, for a tracking store."""
    unread = _unread(config)
    ignores_vaal = "vaal" not in _method_reads(config)
    return {
        key: value
        for key, value in config.flat.items()
        if key not in {f"acquisition.{name}" for name in unread}
        and not (ignores_vaal and key.startswith("vaal."))
        and not _is_unread_by_pretrained(config, key)
    }


def _is_unread_by_pretrained(config: Config, key: str) -> bool:
    """Settings of a training that does not happen."""
    section, _, name = key.partition(".")
    if section == "pretrain":
        return config.has_given_weights
    if key == "batch_parts":
        return config.is_frozen
    return section == "train" and config.is_frozen and name not in READ_BY_FROZEN


def method_digest(config: Config) -> str:
    """Digest of the settings that all seeds of a method share; where its images are is not one of them."""
    return digest_of({**settings_read(config), "data": about_data(config.tree)})


def settings_of_theta_0(config: Config) -> dict[str, Any]:
    """The settings that pretrained weights are made of, with those of the split, whatever the seed and device."""
    ignored = PRETRAINING_IGNORES - {"bias"} | {"seed", "device"}
    return {k: v for k, v in _tree_of_stages(config).items() if k not in ignored}


def settings_of_split(config: Config) -> dict[str, Any]:
    """The settings that a split is drawn by, whatever its seed."""
    return {k: v for k, v in _tree_of_stages(config).items() if k in ("data", "bias")}


def _tree_of_stages(config: Config) -> dict[str, Any]:
    """The tree as stages of the pipeline have it: a validation folder that nobody set is no part of it."""
    tree = config.digest_tree
    data = {k: v for k, v in tree["data"].items() if k not in ("validation", "embeddings") or v is not None}
    return {**tree, "data": data}


def tree_read(config: Config, tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's tree without the settings that its method does not read."""
    unread, reads = _unread(config), _method_reads(config)
    left = {k: v for k, v in without_later_defaults(tree["acquisition"]).items() if k not in unread}
    sections = {k: v for k, v in {**tree, "acquisition": left}.items() if k != "vaal" or "vaal" in reads}
    if config.has_given_weights:
        del sections["pretrain"]
    if config.is_frozen:
        sections["train"] = {k: v for k, v in tree["train"].items() if k in READ_BY_FROZEN}
        sections.pop("batch_parts", None)
    return sections


def _method_reads(config: Config) -> frozenset[str]:
    return frozenset(acquisition_of(config.acquisition).reads(config.acquisition.pseudo_label))


def _unread(config: Config) -> frozenset[str]:
    """Settings of the acquisition that its method does not read."""
    unscheduled = set[str]() if acquisition(config.acquisition.name).has_schedule else {"budget", "rounds"}
    return METHOD_SETTINGS - _method_reads(config) | unscheduled


def without_later_defaults(acquisition: Mapping[str, Any]) -> dict[str, Any]:
    """Without settings that came later and are left as they were."""
    later = DEFAULTS_LEFT_OUT_OF_DIGEST
    return {key: value for key, value in acquisition.items() if key not in later or value != later[key]}


def settings_of_first_descriptors(config: Config) -> dict[str, Any]:
    """The settings that the descriptors of a first round are made of, whatever the seed and device."""
    is_random = acquisition(config.acquisition.name).random_first
    reads = {"name"} if is_random else {"name", "batch_size"} | read_by_descriptors(config)
    settings = without_later_defaults(config.tree["acquisition"])
    chosen = {key: value for key, value in settings.items() if key in reads}
    one = {"budget": 1, "rounds": 1}
    return {**settings_of_theta_0(config), "acquisition": chosen | one, "holdout": config.holdout}


def read_by_descriptors(config: Config) -> set[str]:
    """Settings of the acquisition that change its descriptors or the labels that are estimated with them."""
    label = config.acquisition.pseudo_label
    reads = acquisition_of(config.acquisition).reads(label)
    by_kernel = {"combine"} if "pseudo_label" in reads and PSEUDO_LABELS[label].by_kernel else set()
    return set(reads) - (AFTER_DESCRIPTORS - by_kernel)
