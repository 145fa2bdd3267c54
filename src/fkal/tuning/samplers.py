"""Optuna's samplers and pruners by name, as far as they suit the search space."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

from optuna import pruners, samplers
from optuna.distributions import CategoricalDistribution

from fkal.config.schema import ConfigError
from fkal.errors import did_you_mean
from fkal.tuning.search_space import Space


@dataclass(frozen=True)
class Sampler:
    """How to make it from a seed; `package` is what it needs beside Optuna."""

    make: Callable[[int], samplers.BaseSampler]
    package: str | None = None
    takes_choices: bool = True
    takes_two: bool = True


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "tpe": Sampler(lambda seed: samplers.TPESampler(seed=seed)),
        "random": Sampler(lambda seed: samplers.RandomSampler(seed=seed)),
        "gp": Sampler(lambda seed: samplers.GPSampler(seed=seed, deterministic_objective=False), package="scipy"),
        "cmaes": Sampler(
            lambda seed: samplers.CmaEsSampler(seed=seed), package="cmaes", takes_choices=False, takes_two=False
        ),
        "nsgaii": Sampler(lambda seed: samplers.NSGAIISampler(seed=seed)),
    }
)

Pruner = Callable[[int, int], pruners.BasePruner]

PRUNERS: Mapping[str, Pruner] = MappingProxyType(
    {
        "median": lambda budget, labels: pruners.MedianPruner(),
        "percentile": lambda budget, labels: pruners.PercentilePruner(25.0),
        "hyperband": lambda budget, labels: pruners.HyperbandPruner(min_resource=budget, max_resource=labels),
        "halving": lambda budget, labels: pruners.SuccessiveHalvingPruner(min_resource=budget),
        "none": lambda budget, labels: pruners.NopPruner(),
    }
)
"""By the labels of one round and of all; a trial's steps are labels used."""


def sampler_named(name: str, space: Space, *, n_objectives: int) -> Callable[[int], samplers.BaseSampler]:
    """Makes it from a seed. Raises ConfigError where it does not suit the space or lacks a package."""
    if name not in SAMPLERS:
        known = ", ".join(SAMPLERS)
        raise ConfigError(f"--sampler {name!r}: unknown; {did_you_mean(name, SAMPLERS)}known: {known}")
    chosen = SAMPLERS[name]
    choices = [key for key, each in space.distributions.items() if isinstance(each, CategoricalDistribution)]
    if choices and not chosen.takes_choices:
        raise ConfigError(
            f"--sampler {name}: it searches numbers alone, not {', '.join(choices)}; take tpe, or a space of ranges"
        )
    if n_objectives > 1 and not chosen.takes_two:
        raise ConfigError(f"--sampler {name}: it has one objective; take tpe or nsgaii")
    if chosen.package and find_spec(chosen.package) is None:
        raise ConfigError(f"--sampler {name}: it needs a package that is not here; pip install {chosen.package}")
    return chosen.make


def pruner_named(name: str, *, budget: int, rounds: int) -> pruners.BasePruner:
    """Raises ConfigError for an unknown name."""
    if name not in PRUNERS:
        raise ConfigError(f"--pruner {name!r}: unknown; {did_you_mean(name, PRUNERS)}known: {', '.join(PRUNERS)}")
    return PRUNERS[name](budget, budget * rounds)
