"""The search space of a study: which settings it tries, in which ranges, and how a trial's values become settings."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fkal.acquisition.registry import acquisition
from fkal.acquisition.settings import MATCHING_NAMES
from fkal.config.layers import Layer, merged
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.config.rules import rule_of
from fkal.config.schema import Config, ConfigError
from fkal.config.tuned import nested, value_at
from fkal.core.kernels import R_ZG
from fkal.core.labels import PSEUDO_LABELS
from fkal.core.whitening import WHITENINGS
from fkal.engine.losses import LOSSES
from fkal.engine.settings import PretrainConfig, TrainConfig, VaalConfig
from fkal.errors import did_you_mean, shortened
from fkal.models.settings import usual_taps

TAPS = "acquisition.taps"
EPOCHS, DECAY_EPOCHS = "train.epochs", "train.decay_epochs"
ESTIMATOR = "acquisition.pseudo_label"
MATCHING = "acquisition.matching"
LOSS, PCA = "train.loss", "features.pca"

SHORT = MappingProxyType(
    {
        "batch_size": "train.batch_size",
        "taps": TAPS,
        "lr": "train.lr",
        "decay": "train.decay",
        "epochs": "train.epochs",
        "combine": "acquisition.combine",
        "matching": MATCHING,
        "whitening": "acquisition.whitening",
        "pseudo_label": ESTIMATOR,
        "k": "acquisition.samples",
        "loss": LOSS,
        "pca": PCA,
    }
)
"""What `--space` and the section `tune.space` may call a key for short."""

NO_TAPS = "no tap is left, and the method describes images by taps"
ALWAYS = ("batch_size", "taps")
ALWAYS_FROZEN = ("loss", "pca")
"""A head on one embedding is trained to convergence, so it has neither batches nor taps to choose."""
NOT_SEARCHED = frozenset({"task", "decay_epochs", "name", "budget", "rounds", "parts"})
"""Lists, names of things, what makes results incomparable, and what saves time or memory alone."""

Usual = Callable[[Any], BaseDistribution]


def _around(least: int, factor: int) -> Usual:
    return lambda now: IntDistribution(min(now, max(least, now // factor)), max(now, least) * factor, log=True)


USUAL: Mapping[str, Usual] = MappingProxyType(
    {
        "train.batch_size": _around(2, 4),
        "train.lr": lambda now: FloatDistribution(now / 10, now * 10, log=True),
        "train.decay": lambda now: FloatDistribution(min(now, 0.05), 1.0),
        "train.epochs": _around(1, 2),
        "acquisition.combine": lambda _: CategoricalDistribution(list(R_ZG)),
        MATCHING: lambda _: CategoricalDistribution(list(MATCHING_NAMES)),
        "acquisition.whitening": lambda _: CategoricalDistribution(list(WHITENINGS)),
        "acquisition.samples": _around(2, 4),
        LOSS: lambda _: CategoricalDistribution(list(LOSSES)),
        PCA: _around(1, 4),
    }
)
"""Where a key is searched whose range nobody gave, by its configured value."""


class Range(BaseModel):
    """`{low: 0.001, high: 0.1, log: true}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        for end in (self.low, self.high, self.step or 0):
            if not math.isfinite(end):
                raise ValueError(f"{end}: ranges end; give finite numbers")
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}; exchange them")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log: true wants low above 0 and no step; set log: false")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step {self.step}; give one above 0")
        return self

    def distribution(self, now: Any) -> BaseDistribution:
        """Whole numbers where the configured value and the ends are."""
        if all(isinstance(value, int) for value in (now, self.low, self.high, self.step or 1)):
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)


@dataclass(frozen=True)
class Space:
    """Distributions by the name that Optuna knows, and the configured values by the same names.

    Of taps each is a boolean `taps/conv1`; `taps` has those that may be chosen, in their order.
    Where epochs are searched, `decay_epochs` has the configured marks, which move in proportion.
    """

    distributions: Mapping[str, BaseDistribution]
    defaults: Mapping[str, Any]
    taps: tuple[str, ...] = ()
    decay_epochs: tuple[int, ...] = ()

    @property
    def keys(self) -> list[str]:
        """The dotted keys that are searched."""
        return list(dict.fromkeys(TAPS if "/" in name else name for name in self.distributions))

    @property
    def described(self) -> dict[str, str]:
        """As JSON; it differs between studies."""
        moved = {DECAY_EPOCHS: json.dumps("in proportion to the epochs")} if self.decay_epochs else {}
        return {name: distribution_to_json(each) for name, each in self.distributions.items()} | moved

    def is_empty(self, params: Mapping[str, Any]) -> bool:
        """Whether no tap is left, of a method that describes images by taps."""
        return bool(self.taps) and not any(params[f"taps/{tap}"] for tap in self.taps)

    def settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A trial's values by dotted key. Raises EmptyTaps where none is left."""
        plain = {name: value for name, value in params.items() if "/" not in name}
        if self.decay_epochs:
            longer = plain[EPOCHS] / self.defaults[EPOCHS]
            plain[DECAY_EPOCHS] = [round(mark * longer) for mark in self.decay_epochs]
        if not self.taps:
            return plain
        if self.is_empty(params):
            raise EmptyTaps(NO_TAPS)
        return {**plain, TAPS: [tap for tap in self.taps if params[f"taps/{tap}"]]}


class EmptyTaps(ValueError):
    """A trial without taps, which the method cannot run."""


def search_space(base: Config, more: Sequence[str], given: Mapping[str, Any] | None) -> Space:
    """The `given` space (the params file's section `tune.space`) or the usual one, with `more` keys by name.

    Raises ConfigError for a key that is unknown or that the method does not read, and for a range
    that has not the configured value in it: the first trial is the configured one.
    """
    wanted: dict[str, Any] = {_full(key): value for key, value in (given or {}).items()}
    for name in [*([] if given else _usual(base, wanted)), *more]:
        wanted.setdefault(_full(name), None)
    known = searchable(base, [*wanted])
    distributions: dict[str, BaseDistribution] = {}
    defaults: dict[str, Any] = {}
    taps: tuple[str, ...] = ()
    for key, value in wanted.items():
        _refuse_unsearchable(key, base, known)
        now = value_at(base.tree, key)
        if key == TAPS:
            taps = _taps(base, value, now)
            names = {f"taps/{tap}": tap in now for tap in taps}
            distributions |= {name: CategoricalDistribution([False, True]) for name in names}
            defaults |= names
        else:
            distributions[key] = _distribution(key, value, now, base)
            defaults[key] = now
            _refuse_impossible(base, key, distributions[key], now)
    moved = base.train.decay_epochs if EPOCHS in distributions else ()
    return Space(distributions, defaults, taps, moved)


def with_settings(base: Config, settings: Mapping[str, Any]) -> Config:
    """The base configuration with some keys set. Raises ConfigError for what cannot be."""
    return merged([Layer("configuration", base.tree), Layer("trial", nested(settings))])


def searchable(base: Config, wanted: Iterable[str]) -> list[str]:
    """Dotted keys that change what the method does; an estimator or a matching that is searched reads what any of them
    reads."""
    estimators = _estimators(base) if ESTIMATOR in wanted else [base.acquisition.pseudo_label]
    matchings = MATCHING_NAMES if MATCHING in wanted else (base.acquisition.matching,)
    entries = [acquisition(base.acquisition.name).under(matching) for matching in matchings]
    reads = frozenset[str]().union(*(entry.reads(each) for entry in entries for each in estimators))
    sections: dict[str, Iterable[str]] = {
        "train": (field.name for field in fields(TrainConfig)) if not base.is_frozen else ("loss",),
        "features": ("pca",) if base.is_frozen else (),
        "acquisition": (field.name for field in fields(base.acquisition) if field.name in reads),
        "pretrain": (field.name for field in fields(PretrainConfig)) if base.pretrains else (),
        "vaal": (field.name for field in fields(VaalConfig)) if "vaal" in reads else (),
    }
    keys = [f"{section}.{name}" for section, names in sections.items() for name in names if name not in NOT_SEARCHED]
    return [key for key in keys if key != TAPS or not base.is_frozen]


def _usual(base: Config, wanted: Iterable[str]) -> list[str]:
    """What is searched unless a space is given."""
    if base.is_frozen:
        return [name for name in ALWAYS_FROZEN if name != "pca" or base.features.pca is not None]
    reads_taps = TAPS in searchable(base, wanted)
    return [name for name in ALWAYS if name != "taps" or reads_taps]


def _estimators(base: Config) -> list[str]:
    """Those that do not see the truth; of a frozen run, which has no images to turn, those that turn none."""
    return [
        name
        for name, entry in PSEUDO_LABELS.items()
        if not entry.sees_oracle and not (base.is_frozen and entry.views == "perturbed")
    ]


def _full(name: str) -> str:
    return SHORT.get(name, name)


def _refuse_unsearchable(key: str, base: Config, known: Sequence[str]) -> None:
    if key in known:
        return
    short = {full: name for name, full in SHORT.items()}
    if key in short:
        raise ConfigError(f"space: {short[key]}: {_reader(key, base)} does not read {key}; leave it out")
    near = did_you_mean(key, [*known, *SHORT])
    raise ConfigError(
        f"space: {shortened(key)} cannot be searched; {near}known: {', '.join(SHORT)}, and in full {', '.join(known)}"
    )


def _reader(key: str, base: Config) -> str:
    """Who does not read a key."""
    if key == PCA:
        return "a run that is not frozen"
    if base.is_frozen and (key == TAPS or key.startswith("train.")):
        return "a frozen run"
    return base.acquisition.name


def _taps(base: Config, value: Any, now: Sequence[str]) -> tuple[str, ...]:
    """Those given, else the model's usual ones and the configured ones."""
    names = [*usual_taps(base.model.name), *now] if value is None else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"tune.space.{TAPS} = {value!r}: list the taps to choose among, say [conv1, conv2]")
    missing = [tap for tap in now if tap not in names]
    if missing:
        raise ConfigError(f"tune.space.{TAPS}: lacks the configured {', '.join(missing)}; add what the first trial has")
    return tuple(dict.fromkeys(names))


def _distribution(key: str, value: Any, now: Any, base: Config) -> BaseDistribution:
    if value is None and key == ESTIMATOR:
        return CategoricalDistribution(_estimators(base))
    if key == PCA and now is None:
        raise ConfigError("space: pca: the first trial has the configured value, which is null; set features.pca=256")
    if value is None and key in USUAL:
        return USUAL[key](now)
    if isinstance(value, list) and value:
        if not all(isinstance(each, str | int | float) for each in value):
            raise ConfigError(f"tune.space.{key} = {value!r}: choices are numbers or names; give those")
        return CategoricalDistribution(value)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"tune.space.{key} = {value!r}: give a list of choices, or {{low: ..., high: ..., log: true}}"
        )
    try:
        return Range.model_validate(dict(value)).distribution(now)
    except ValidationError as error:
        problems = {each["loc"][:1]: _problem(key, each) for each in reversed(error.errors())}  # int or float: one
        raise ConfigError("\n".join(reversed(problems.values()))) from None


def _problem(key: str, error: Any) -> str:
    place = ".".join(["tune", "space", key, *(str(part) for part in error["loc"][:1])])
    if error["type"] == "extra_forbidden":
        known = list(Range.model_fields)
        return f"{place}: unknown; {did_you_mean(str(error['loc'][0]), known)}known here: {', '.join(known)}"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}"
    return f"{place}: {rule_of(error)}; it is {shortened(error['input'])}"


def _refuse_impossible(base: Config, key: str, distribution: BaseDistribution, now: Any) -> None:
    """Every end and choice must be a value that the configuration takes, and the configured one among them."""
    if isinstance(distribution, CategoricalDistribution):
        some, holds = list(distribution.choices), now in distribution.choices
    else:
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        some, holds = [distribution.low, distribution.high], distribution.low <= now <= distribution.high
    for value in some:
        try:
            refuse_unable_in_parts(with_settings(base, {key: value}).acquisition)
        except ConfigError as error:
            raise ConfigError(f"tune.space.{key}: {error}") from None
    if not holds:
        raise ConfigError(
            f"tune.space.{key}: the configured value {now!r} is not in it; add it, since the first trial has it"
        )
