"""The configuration: one tree, composed of the dataclasses that live beside the code that reads them."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fkal.acquisition.settings import AcquisitionConfig
from fkal.data.settings import OWN_VALIDATION, BiasConfig, DataConfig
from fkal.engine.settings import PretrainConfig, TrainConfig, VaalConfig
from fkal.errors import ConfigError as ConfigError
from fkal.errors import shortened
from fkal.models.settings import FeaturesConfig, ModelConfig

V = TypeVar("V")
R = TypeVar("R")

LONGEST_TEXT = 200
"""Characters of a name."""
LONGEST_PATH = 4000
PATHS = frozenset({"data.root", "data.folder", "data.validation", "data.embeddings", "model.name", "model.weights"})
LONGEST_LIST = 10_000
LONGEST_METHOD = 1000
LONGEST_NAME = 100
"""Characters of what names a file or a folder."""
MOST_PROBLEMS = 20
"""So many are listed."""
LARGEST_SEED = 2**63 - 1
MOST_PARTS = 1024
LARGEST_HOLDOUT = 10_000_000
DEEPEST_KEY = 3
PROTOCOL = "protocol"
"""The earlier name of `epoch`."""
SET = "--set"
LATER_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "train": {
            "loss": TrainConfig.loss,
            "on_validation": TrainConfig.on_validation,
            "precision": TrainConfig.precision,
        },
        "pretrain": {"precision": PretrainConfig.precision},
        "acquisition": {"parts": AcquisitionConfig.parts},
        "data": {"per_class": None, "groups": None, "embeddings": None, "interpolation": None, "decoding": None},
        "model": {"weights": ModelConfig.weights, "compile": ModelConfig.compile},
        "features": {
            "pca": FeaturesConfig.pca,
            "tokens": FeaturesConfig.tokens,
            "precision": FeaturesConfig.precision,
        },
    }
)
"""Settings by section that came after the first digests: at these values they change none."""
IN_NO_DIGEST: Mapping[str, str] = MappingProxyType({"model": "accept_license", "train": "checkpoint_minutes"})
"""Settings by section that allow something and change no result."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Config(BaseModel):
    """The settings of one experiment, frozen and checked.

    Two settings that give the same result have the same `digest`, so where the images are (`data.root`) and how many
    processes read them (`data.workers`) do not count. The number of `threads` does, since sums on a CPU depend on it.

    Example:
        >>> Config(seed=3).seed
        3
        >>> Config().digest == Config.model_validate({"data": {"workers": 8}}).digest
        True
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig = DataConfig()
    bias: BiasConfig = BiasConfig()
    model: ModelConfig = ModelConfig()
    features: FeaturesConfig = FeaturesConfig()
    pretrain: PretrainConfig = PretrainConfig()
    train: TrainConfig = TrainConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()
    vaal: VaalConfig = VaalConfig()
    epoch: Literal["last", "best_on_test"] = "last"
    """Which epoch of a round is kept: the `last`, or the paper's choice, `best_on_test`, by test accuracy."""
    holdout: int = Field(default=0, ge=0, le=LARGEST_HOLDOUT)
    """Validation images per class that are kept from the method and measured instead of the test set."""
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    """Seed of every random choice."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?|mps)$")
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps`."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads of computations on the CPU; null: as many as torch chooses."""
    batch_parts: int = Field(default=1, ge=1, le=MOST_PARTS)
    """Parts of each training batch, whose gradients are summed in order. Under `torchrun` with as many processes each
    computes one part; one process computes all of them, with the same result."""

    @model_validator(mode="before")
    @classmethod
    def _earlier_spellings(cls, values: Any) -> Any:
        """Earlier names of settings; and YAML reads the pseudo-label `true` as a boolean."""
        values = with_new_names(values) if isinstance(values, dict) else values
        section = values.get("acquisition") if isinstance(values, dict) else None
        if isinstance(section, dict) and section.get("pseudo_label") is True:
            return {**values, "acquisition": {**section, "pseudo_label": "true"}}
        return values

    @property
    def protocol(self) -> str:
        """`last` or `paper`: how files, tracking stores and digests call `epoch`, whose name this once was."""
        return "paper" if self.epoch == "best_on_test" else "last"

    @property
    def tree(self) -> dict[str, Any]:
        """Plain nested values, as YAML and JSON hold them."""
        return self.model_dump(mode="json")

    @property
    def flat(self) -> dict[str, Any]:
        """Dotted keys with plain values or None; lists and mappings as compact JSON."""
        return dict(flattened(self.tree))

    @property
    def digest(self) -> str:
        """32 hexadecimal digits of everything that changes the result."""
        tree = self.tree
        return digest_of({**self.digest_tree, "data": about_data(tree)})

    @property
    def digest_tree(self) -> dict[str, Any]:
        """The tree that digests are made of.

        Settings that came later and have their default are no part of it; `epoch` has its earlier name.
        """
        tree = self.tree
        del tree["epoch"]
        tree["protocol"] = self.protocol
        for section, later in LATER_DEFAULTS.items():
            tree[section] = {k: v for k, v in tree[section].items() if k not in later or v != later[k]}
        for section, name in IN_NO_DIGEST.items():
            tree[section].pop(name)
        if self.batch_parts == 1:  # likewise later
            del tree["batch_parts"]
        return {section: values for section, values in tree.items() if values != {}}

    @property
    def has_given_weights(self) -> bool:
        """Whether what the pool is seen by is given: pretrained weights, or embeddings of one's own."""
        return self.model.is_pretrained or self.is_frozen

    @property
    def is_frozen(self) -> bool:
        """Whether a head learns on embeddings that are made once."""
        return self.train.layers == "frozen"

    @property
    def pretrains(self) -> bool:
        """Whether the first weights are made here, by rotation."""
        return self.pretrain.task != "none" and not self.has_given_weights


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with `epoch` for `protocol`, whose value `paper` is now `best_on_test`.

    Raises ValueError where both are there and differ.
    """
    if PROTOCOL not in values:
        return dict(values)
    given = values[PROTOCOL]
    epoch = "best_on_test" if given == "paper" else given
    if values.get("epoch", epoch) != epoch:
        raise ValueError(
            f"protocol = {shortened(given)} and epoch = {shortened(values['epoch'])} contradict each other; "
            "protocol is the earlier name of epoch: give epoch alone"
        )
    return {**{key: value for key, value in values.items() if key != PROTOCOL}, "epoch": epoch}


def about_data(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `data` that changes the result; where the files are does not, nor rare classes that nobody named.

    Of an own validation folder it holds that there is one, and no number of images to draw.
    """
    data = tree["data"]
    has_own = data.get("validation") is not None
    left_out = {"root", "folder", "workers", "validation", "embeddings"}
    left_out |= {key for key in ("rare", *LATER_DEFAULTS["data"]) if data.get(key) is None}
    left_out |= {"validation_per_class"} if has_own else set()
    own = {"validation": OWN_VALIDATION} if has_own else {}
    return {k: v for k, v in data.items() if k not in left_out} | own


def digest_of(value: Any) -> str:
    """32 hexadecimal digits of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and not prefix:
            yield from flattened(value, f"{key}.")
        elif isinstance(value, list | dict):
            yield prefix + key, json.dumps(value, separators=(",", ":"))
        else:
            yield prefix + key, value


def configured(key: str, make: Callable[[V], R], value: V, way_out: str = "") -> R:
    """`make(value)`, its refusal being one of the configuration's `key`."""
    try:
        return make(value)
    except ValueError as error:
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(f"{key} = {shortened(shown)}: {error}{way_out}") from error
