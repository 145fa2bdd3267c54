"""A method by its short name: `pfk_joint:k16@conv2`."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fkal.acquisition.registry import ACQUISITIONS
from fkal.acquisition.settings import COMBINE_NAMES, MATCHING_NAMES
from fkal.config.layers import Layer
from fkal.config.schema import LONGEST_METHOD, LONGEST_NAME, ConfigError
from fkal.core.labels import PSEUDO_LABELS
from fkal.errors import did_you_mean, shortened

METHOD = re.compile(r"(?P<name>pfk(?=_)|[^:@]+)(_(?P<pseudo_label>[^:@]+))?(?P<marks>(:[^:@]+)*)(@(?P<taps>.+))?")
COUNT = re.compile(r"(?P<letter>[ek])(?P<count>[0-9]+)")
MOST_COUNT_DIGITS = 9
COUNTS = {"e": "ensemble", "k": "samples"}
RANDOM_THETA_0 = "random_theta_0"
HEAD_ONLY = "head_only"
WHITEN = "whiten"
METHOD_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "fisher_coverage": "pfk_joint_shift_grid:coverage",
        "weighted_coverage": "pfk_joint_shift_grid:wcov",
        "noisy_or": "pfk_joint_shift_grid:noisy_or",
    }
)
"""Short names of short names: what this platform recommends, by names of their own."""


def method_layer(spec: str) -> Layer:
    """A method by its short name: `random`, `varr:e4:k32`, `pcc@conv2`, `pfk_joint:sum@conv1+conv2`.

    After `pfk_` stands the pseudo-label; after each `:` how R_z and R_g meet, how targets share the budget
    (`coverage`, `transport`, `ecov`, `noisy_or`, `wcov`, `wcov_zg`, `tail_first`), `whiten` for whitened descriptors,
    `e4` for an ensemble of 4, `k32` for 32 Monte Carlo passes or views, `random_theta_0` for no pretraining,
    `head_only` for retraining the last layer alone; after `@` the taps. Names of `METHOD_ALIASES`
    stand for what it says. What is not said stays as configured.
    Raises ConfigError for what is not of this form.
    """
    if len(spec) > LONGEST_METHOD:
        raise ConfigError(f"--method {shortened(spec)}: give at most {LONGEST_METHOD} characters")
    name = re.split("[:@]", spec)[0]
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"--method {shortened(name)}: a method's name has at most {LONGEST_NAME} characters")
    match = METHOD.fullmatch(long_method_name(spec))
    if match is None:
        raise ConfigError(f"--method {spec!r}: give NAME[_PSEUDO-LABEL][:MARK...][@TAP+TAP], say pfk_joint@conv2")
    _refuse_near_alias(spec, name)
    _refuse_unknown_label(spec, match["pseudo_label"])
    chosen: dict[str, Any] = {key: match[key] for key in ("name", "pseudo_label") if match[key] is not None}
    if match["taps"]:
        chosen["taps"] = match["taps"].split("+")
    values: dict[str, Any] = {"acquisition": chosen}
    for mark in match["marks"].split(":")[1:]:
        setting = _marked(spec, mark)
        if any(key in values.get(section, {}) for section, keys in setting.items() for key in keys):
            raise ConfigError(f"--method {spec!r}: {mark!r} says again what a mark before it said; give one of them")
        for section, chosen in setting.items():
            values.setdefault(section, {}).update(chosen)
    return Layer(f"--method {spec}", values, keeps_taps="taps" in values["acquisition"])


def _refuse_near_alias(spec: str, name: str) -> None:
    """An unknown name that is nearer to an alias than to any method; the registry refuses other unknown names."""
    if name in METHOD_ALIASES or name in ACQUISITIONS:
        return
    near = did_you_mean(name, [*METHOD_ALIASES, *ACQUISITIONS])
    if any(repr(alias) in near for alias in METHOD_ALIASES):
        raise ConfigError(f"--method {spec!r}: unknown method {name!r}; {near}run: fkal list acquisitions")


def _refuse_unknown_label(spec: str, label: str | None) -> None:
    if label is not None and label not in PSEUDO_LABELS:
        short = re.split("[:@]", spec)[0]
        near = did_you_mean(f"pfk_{label}", [f"pfk_{each}" for each in PSEUDO_LABELS])
        raise ConfigError(
            f"--method {spec!r}: unknown method {short!r}: pseudo_label = {shortened(label)}; "
            f"{near}give one of {', '.join(PSEUDO_LABELS)}"
        )


def short_method_name(spec: str) -> str:
    """`fisher_coverage` of `pfk_joint_shift_grid:coverage`: the name of its own that a method has, else the spec."""
    for name, long in METHOD_ALIASES.items():
        rest = spec.removeprefix(long)
        if rest != spec and (not rest or rest[0] in ":@"):
            return name + rest
    return spec


def long_method_name(spec: str) -> str:
    """`pfk_joint_shift_grid:coverage` of `fisher_coverage`: the name that identifies a method in files and stores."""
    name = re.split("[:@]", spec)[0]
    return METHOD_ALIASES.get(name, name) + spec[len(name) :]


def with_alias(name: str, method: str) -> str:
    """An experiment's name with the alias of its method: what people read for `digits-ir20-pfk_joint-s0`."""
    return name.replace(f"-{method}", f"-{short_method_name(method)}", 1)


def _marked(spec: str, mark: str) -> dict[str, Any]:
    """The settings that one mark of a method's short name stands for."""
    count = COUNT.fullmatch(mark)
    if count and len(count["count"]) > MOST_COUNT_DIGITS:
        raise ConfigError(f"--method {spec[:LONGEST_NAME]}: {shortened(mark)}: give at most {MOST_COUNT_DIGITS} digits")
    if count:
        return {"acquisition": {COUNTS[count["letter"]]: int(count["count"])}}
    if mark in COMBINE_NAMES:
        return {"acquisition": {"combine": mark}}
    if mark in MATCHING_NAMES:
        return {"acquisition": {"matching": mark}}
    if mark == WHITEN:
        return {"acquisition": {"whitening": "shrunk"}}
    if mark == RANDOM_THETA_0:
        return {"pretrain": {"task": "none"}}
    if mark == HEAD_ONLY:
        return {"train": {"layers": "head"}}
    known = [*COMBINE_NAMES, *MATCHING_NAMES, WHITEN, RANDOM_THETA_0, HEAD_ONLY]
    raise ConfigError(
        f"--method {spec!r}: {mark!r} is unknown; {did_you_mean(mark, known)}known: {', '.join(known)}, e4, k32"
    )
