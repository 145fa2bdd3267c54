"""The configuration: one tree, composed of the dataclasses that live beside the code that reads them.

Layers, the later over the earlier: a params file or preset, environment variables
(`FKAL_TRAIN__LR=0.1`), `--set train.lr=0.1`. Both spell the same dotted keys and read their
values as YAML.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fkal.acquisition.fisher import MATCHINGS
from fkal.acquisition.settings import AcquisitionConfig
from fkal.core.kernels import R_ZG
from fkal.data.config import BiasConfig, DataConfig
from fkal.engine.pretraining import PretrainConfig
from fkal.engine.training import TrainConfig
from fkal.engine.vaal import VaalConfig
from fkal.errors import did_you_mean
from fkal.models.registry import ModelConfig

ENVIRONMENT = "FKAL_"
DATA_ROOT = "FKAL_DATA_ROOT"
JOBS = "FKAL_JOBS"
PSEUDO_LABEL = "acquisition.pseudo_label"
NOT_CONFIGURATION = frozenset({DATA_ROOT, JOBS})


RULES = {
    "dataclass_type": "give a section, keys with values",
    "tuple_type": "give a list, say [conv1, conv2]",
    "dict_type": "give a mapping, say {5: 0.1}",
    "string_pattern_mismatch": "give auto, cpu, cuda, cuda:1 or mps",  # of device, the only pattern there is
}
"""What is wanted, where pydantic would speak of Python's types."""


class ConfigError(ValueError):
    """One line a problem: the key, the value, what is allowed."""


class Config(BaseModel):
    """One experiment. What does not change its result (`data.root`, `data.workers`) has no part
    in its digest; `threads` has, since sums on the CPU depend on how they are shared out.

    `holdout` images a class of the validation set are kept from the method, to measure on them in the
    test set's stead; so settings are tuned.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig = DataConfig()
    bias: BiasConfig = BiasConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    train: TrainConfig = TrainConfig()
    acquisition: AcquisitionConfig = AcquisitionConfig()
    vaal: VaalConfig = VaalConfig()
    protocol: Literal["last", "paper"] = "last"
    holdout: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")
    threads: int | None = Field(default=None, ge=1, le=1024)

    @model_validator(mode="before")
    @classmethod
    def _true_is_a_name(cls, values: Any) -> Any:
        """YAML reads the pseudo-label `true` as a boolean."""
        section = values.get("acquisition") if isinstance(values, dict) else None
        if isinstance(section, dict) and section.get("pseudo_label") is True:
            return {**values, "acquisition": {**section, "pseudo_label": "true"}}
        return values

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
        """32 hexadecimal digits of everything that bears on the result."""
        tree = self.tree
        return digest_of({**tree, "data": about_data(tree)})


def about_data(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `data` that bears on the result; where the files lie does not."""
    return {k: v for k, v in tree["data"].items() if k not in ("root", "folder", "workers")}


def digest_of(value: Any) -> str:
    """32 hexadecimal digits of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Layer:
    """Some values and where they stand, for messages."""

    origin: str
    values: Mapping[str, Any]


def presets() -> dict[str, Path]:
    """The packaged params files by name."""
    folder = Path(str(files("fkal") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset(name: str) -> Path:
    """The params file of a preset. Raises ConfigError for an unknown name."""
    known = presets()
    if name not in known:
        raise ConfigError(f"preset {name!r} is unknown; {did_you_mean(name, known)}presets: {', '.join(known)}")
    return known[name]


def load(
    path: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    assignments: Sequence[str] = (),
    origin: str | None = None,
) -> Config:
    """The configuration of a params file under the environment and `key=value` assignments.

    Raises FileNotFoundError if there is no such file, ConfigError for anything wrong in it.
    """
    return merged(
        [
            from_file(path, origin or str(path)),
            from_environment(environment),
            from_assignments(assignments),
        ]
    )


def merged(layers: Iterable[Layer]) -> Config:
    """The configuration of some layers, later ones over earlier ones, key by key."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _update(values, layer.values, origins, layer.origin, ())
    flags = [key for key, value in flattened(values) if isinstance(value, bool) and key != PSEUDO_LABEL]
    if flags:
        raise ConfigError(
            "\n".join(f"{key}: true or false; no setting is a flag, give a number or a name" for key in flags)
        )
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(e, origins) for e in error.errors())) from None


def from_file(path: Path, origin: str) -> Layer:
    try:
        values = yaml.load(path.read_text(), Loader=_SafeLoader)
    except OSError as error:
        raise ConfigError(f"{origin}: cannot be read: {error.strerror}; name a params file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{origin}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: holds {type(values).__name__}; give a mapping of sections")
    return Layer(origin, values)


def from_environment(environment: Mapping[str, str]) -> Layer:
    """`FKAL_SECTION__KEY` variables; `FKAL_DATA_ROOT` is short for `FKAL_DATA__ROOT`."""
    values: dict[str, Any] = {}
    if DATA_ROOT in environment:
        _assign(values, ["data", "root"], environment[DATA_ROOT])
    for name in sorted(configuring(environment)):
        path = name.removeprefix(ENVIRONMENT).lower().split("__")
        _assign(values, path, yaml_value(environment[name], name))
    return Layer("environment", values)


def configuring(environment: Mapping[str, str]) -> list[str]:
    """Names of the variables that set a key of the tree."""
    return [
        name
        for name in environment
        if name.startswith(ENVIRONMENT)
        and name not in NOT_CONFIGURATION
        and name.removeprefix(ENVIRONMENT).lower().split("__")[0] in Config.model_fields
    ]


def strangers(environment: Mapping[str, str]) -> list[str]:
    """Names of `FKAL_` variables that mean nothing, most likely misspelt."""
    known = {*configuring(environment), *NOT_CONFIGURATION}
    return sorted(n for n in environment if n.startswith(ENVIRONMENT) and n not in known)


def from_assignments(assignments: Sequence[str]) -> Layer:
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment!r}: give path.to.key=value, say train.lr=0.1")
        _assign(values, key.strip().split("."), yaml_value(text, f"--set {key}"))
    return Layer("--set", values)


METHOD = re.compile(r"(?P<name>pfk(?=_)|[^:@]+)(_(?P<pseudo_label>[^:@]+))?(?P<marks>(:[^:@]+)*)(@(?P<taps>.+))?")
COUNT = re.compile(r"(?P<letter>[ek])(?P<count>\d+)")
COUNTS = {"e": "ensemble", "k": "samples"}
RANDOM_THETA_0 = "random_theta_0"
HEAD_ONLY = "head_only"
WHITEN = "whiten"
NAMED: Mapping[str, str] = MappingProxyType({"fisher_coverage": "pfk_joint_shift_grid:coverage"})
"""Short names of short names: what this platform recommends, by a name of its own."""


def method_layer(spec: str) -> Layer:
    """A method by its short name: `random`, `varr:e4:k32`, `pcc@conv2`, `pfk_joint:sum@conv1+conv2`.

    After `pfk_` stands the pseudo-label; after each `:` how R_z and R_g meet, how targets share the budget
    (`coverage`), `whiten` for whitened descriptors, `e4` for an ensemble of 4,
    `k32` for 32 Monte Carlo passes or views, `random_theta_0` for no pretraining, `head_only` for
    retraining the last layer alone; after `@` the taps. `fisher_coverage` stands for what `NAMED` says.
    What is not said stays as configured.
    Raises ConfigError for what is not of this form.
    """
    name = re.split("[:@]", spec)[0]
    match = METHOD.fullmatch(NAMED.get(name, name) + spec[len(name) :])
    if match is None:
        raise ConfigError(f"--method {spec!r}: give NAME[_PSEUDO-LABEL][:MARK...][@TAP+TAP], say pfk_joint@conv2")
    chosen: dict[str, Any] = {key: match[key] for key in ("name", "pseudo_label") if match[key] is not None}
    if match["taps"]:
        chosen["taps"] = match["taps"].split("+")
    values: dict[str, Any] = {"acquisition": chosen}
    for mark in match["marks"].split(":")[1:]:
        setting = _marked(spec, mark)
        if any(key in values.get(section, {}) for section, keys in setting.items() for key in keys):
            raise ConfigError(f"--method {spec!r}: {mark!r} says anew what a mark before it said; give one of them")
        _update(values, setting, {}, "", ())
    return Layer(f"--method {spec}", values)


def short_method_name(spec: str) -> str:
    """`fisher_coverage` of `pfk_joint_shift_grid:coverage`: the name of its own that a method has, else the spec."""
    for name, long in NAMED.items():
        rest = spec.removeprefix(long)
        if rest != spec and (not rest or rest[0] in ":@"):
            return name + rest
    return spec


def _marked(spec: str, mark: str) -> dict[str, Any]:
    """The settings that one mark of a method's short name stands for."""
    count = COUNT.fullmatch(mark)
    if count:
        return {"acquisition": {COUNTS[count["letter"]]: int(count["count"])}}
    if mark in R_ZG:
        return {"acquisition": {"combine": mark}}
    if mark in MATCHINGS:
        return {"acquisition": {"matching": mark}}
    if mark == WHITEN:
        return {"acquisition": {"whitening": "shrunk"}}
    if mark == RANDOM_THETA_0:
        return {"pretrain": {"task": "none"}}
    if mark == HEAD_ONLY:
        return {"train": {"layers": "head"}}
    known = [*R_ZG, *MATCHINGS, WHITEN, RANDOM_THETA_0, HEAD_ONLY]
    raise ConfigError(
        f"--method {spec!r}: {mark!r} is unknown; {did_you_mean(mark, known)}known: {', '.join(known)}, e4, k32"
    )


def yaml_value(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {text!r} is not a YAML value: {' '.join(str(error).split())}") from None


class _SafeLoader(yaml.SafeLoader):
    """Plain values only, and no key twice: of two the safe loader silently takes the latter."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"key {twice[0]!r} stands twice; give it once{node.start_mark}")
        return super().construct_mapping(node, deep)


def _assign(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{'.'.join(path)}: {key} has a value already; set one or the other")
    values[path[-1]] = value


def _update(
    values: dict[str, Any],
    over: Mapping[str, Any],
    origins: dict[str, str],
    origin: str,
    path: tuple[str, ...],
) -> None:
    for key, value in over.items():
        here = (*path, str(key))
        origins[".".join(here)] = origin
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _update(values[key], value, origins, origin, here)
        elif isinstance(value, Mapping) and len(here) == 1:
            values[key] = {}
            _update(values[key], value, origins, origin, here)
        else:
            values[key] = value


def _problem(error: Any, origins: Mapping[str, str]) -> str:
    """One line: the key, the value, what is allowed, where it was given."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(path) or "configuration"
    origin = next((origins[k] for k in _ancestors(path) if k in origins), None)
    where = f" (in {origin})" if origin else ""
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_at(path[:-1])
        return f"{key}: unknown key; {did_you_mean(path[-1], known)}known here: {', '.join(known)}{where}"
    if error["type"] == "value_error":
        section = f"{key}." if path else ""
        return f"{section}{error['ctx']['error']}{_origin_of(str(error['ctx']['error']), key, origins) or where}"
    rule = RULES.get(error["type"]) or error["msg"].lower()
    return f"{key} = {error['input']!r}: {rule}{where}"


def _origin_of(message: str, section: str, origins: Mapping[str, str]) -> str:
    """A dataclass's own message starts with its key; where that was given is known more closely."""
    key = message.replace(":", " ").split(" ")[0]
    origin = origins.get(f"{section}.{key}")
    return f" (in {origin})" if origin else ""


def _ancestors(path: Sequence[str]) -> list[str]:
    return [".".join(path[:n]) for n in range(len(path), 0, -1)]


def _keys_at(path: Sequence[str]) -> list[str]:
    if not path:
        return list(Config.model_fields)
    section = Config.model_fields[path[0]].annotation
    return [field.name for field in fields(section)] if is_dataclass(section) else []


def flattened(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and not prefix:
            yield from flattened(value, f"{key}.")
        elif isinstance(value, list | dict):
            yield prefix + key, json.dumps(value, separators=(",", ":"))
        else:
            yield prefix + key, value
