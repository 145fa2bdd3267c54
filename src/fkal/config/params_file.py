"""A params file: the settings of one experiment, or a grid of experiments and the settings of each dataset.

grid:                        # every dataset x ratio x method, each with every seed
  dataset: [mnist]
  ratio: [1, 100]
  method: [random, pfk_joint, pcc_conv2]
  seeds: 0-4
methods: {pcc_conv2: pcc@conv2}
datasets:
  mnist: {data: {name: mnist}, train: {...}, ...}
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fkal.config.layers import Layer, from_file
from fkal.config.rules import rule_of
from fkal.config.schema import LONGEST_NAME, PROTOCOL, Config, ConfigError
from fkal.errors import did_you_mean, shortened
from fkal.identifiers import GRID_NAME

SECTIONS = ("grid", "methods", "datasets", "tune")
"""What a params file may hold beside the settings of an experiment."""

NAME = re.compile(GRID_NAME)
"""What a cell's file and its stage can be called; DVC takes no @ in the name of a stage."""

MOST_SEEDS = 1000
SEED_DIGITS = 9
MOST_EXPERIMENTS = 100_000
"""Of one command."""


MOST_NAMES = 1000
"""Of datasets, of ratios, of methods in a grid."""


def _number(value: Any) -> Any:
    """Raises ValueError for what the pipeline would write otherwise than it was given."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{shortened(value)} is no number; give some, say [1, 100]")
    if value < 1:
        raise ValueError(f"{shortened(value)} is below 1; give 1 or more")
    return value


Ratio = Annotated[int | float, BeforeValidator(_number)]


class Grid(BaseModel):
    """What is compared: every dataset, ratio and method, each with every seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: tuple[str, ...] = Field(min_length=1, max_length=MOST_NAMES)
    """Names of `datasets`."""
    ratio: tuple[Ratio, ...] = Field(default=(), max_length=MOST_NAMES)
    """Values of `bias.ratio`; empty: the one of the settings."""
    method: tuple[str, ...] = Field(min_length=1, max_length=MOST_NAMES)
    """Methods as `fkal run --method` takes them, or names of `methods`."""
    seeds: Annotated[str, BeforeValidator(str)] = "0"
    """Seeds: `3`, `0-4` or `0-2,7`."""


@dataclass(frozen=True)
class ParamsFile:
    """`settings` are one experiment's; instead, `datasets` has them by name. `methods` has short names by name."""

    origin: str
    settings: Mapping[str, Any]
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Grid | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    tune: Any = None
    beside: Path | None = None  # the folder of the file

    def layer(self, dataset: str | None) -> Layer:
        """The settings of a dataset, or the only ones. Raises ConfigError for one that the file has not."""
        if not self.datasets:
            return Layer(self.origin, self.settings, self.beside)
        if dataset is None or dataset not in self.datasets:
            known = ", ".join(self.datasets)
            hint = did_you_mean(dataset or "", self.datasets)
            raise ConfigError(
                f"{self.origin}: datasets has no {shortened(dataset)}; {hint}it has: {known}; "
                "`fkal grid` prints a file with others"
            )
        return Layer(f"{self.origin}: datasets.{dataset}", self.datasets[dataset], self.beside)

    def short_name(self, method: str) -> str:
        """What a method's name in the grid stands for."""
        return self.methods.get(method, method)


def params_file(path: Path, origin: str) -> ParamsFile:
    """A params file, its grid checked; settings are checked where an experiment is made of them.

    Raises ConfigError for what is wrong in it.
    """
    return replace(params_of(from_file(path, origin).values, origin), beside=path.parent)


def params_of(given: Mapping[str, Any], origin: str) -> ParamsFile:
    """The same of a file's content."""
    values = dict(given)
    _refuse_numbered(values, origin)
    sections = {name: values.pop(name) for name in SECTIONS if name in values}
    if "datasets" in sections and values:
        raise ConfigError(
            f"{origin}: {shortened(', '.join(values))} beside datasets; settings stand under datasets.NAME"
        )
    unknown = [key for key in values if key not in {*Config.model_fields, PROTOCOL}]
    if unknown and sections:
        raise ConfigError(
            f"{origin}: {unknown[0][:LONGEST_NAME]}: unknown key; {did_you_mean(unknown[0], SECTIONS)}"
            f"known: {', '.join(SECTIONS)}"
        )
    file = ParamsFile(
        origin=origin,
        settings=values,
        datasets=_mappings(sections.get("datasets", {}), f"{origin}: datasets"),
        grid=_grid(sections.get("grid"), origin),
        methods=_methods(sections.get("methods", {}), origin),
        tune=sections.get("tune"),
    )
    _refuse_unknown_datasets(file)
    return file


def _refuse_numbered(values: Mapping[Any, Any], where: str) -> None:
    """Raises ConfigError for keys that are numbers, which only classes have."""
    for key in values:
        if not isinstance(key, str):
            raise ConfigError(f"{where}: the key {shortened(key)} is no name; keys are names, in quotes if need be")


def seed_numbers(text: str, origin: str = "--seeds") -> list[int]:
    """`0-2,7` as [0, 1, 2, 7]. Raises ConfigError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        why = _seed_problem(ends)
        if why:
            raise ConfigError(f"{origin} {shortened(text)}: {shortened(part)} {why}")
        if int(ends[-1]) - int(first) >= MOST_SEEDS:
            raise ConfigError(
                f"{origin} {shortened(text)}: {shortened(part)} are more than {MOST_SEEDS} seeds; give fewer"
            )
        numbers += range(int(first), int(ends[-1]) + 1)
        if len(numbers) > MOST_EXPERIMENTS:
            raise ConfigError(f"{origin} {shortened(text)}: more than {MOST_EXPERIMENTS:,} seeds; give fewer")
    return list(dict.fromkeys(numbers))


def _seed_problem(ends: Sequence[str]) -> str:
    """What is wrong with a seed, or with the two ends of a range; empty where nothing is."""
    if not all(end.isascii() and end.isdigit() for end in ends):
        return "is neither a seed nor a range; say 0-4 or 0,2,5"
    if any(len(end) > SEED_DIGITS for end in ends):
        return f"has a seed of more than {SEED_DIGITS} digits; give 0 to {10**SEED_DIGITS - 1:,}"
    if int(ends[-1]) < int(ends[0]):
        return f"ends below its start; say {ends[-1]}-{ends[0]}"
    return ""


def _grid(values: Any, origin: str) -> Grid | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise ConfigError(f"{origin}: grid = {shortened(values)}: give dataset, ratio, method and seeds")
    _refuse_numbered(values, f"{origin}: grid")
    try:
        grid = Grid.model_validate(values)
    except ValidationError as error:
        wrong = [
            e for e in error.errors() if e["type"] != "too_short" or not e["input"]
        ]  # a wrong item shortens a list
        problems = dict.fromkeys(_problem(e, origin) for e in wrong)
        raise ConfigError("\n".join(problems)) from None
    for key in ("dataset", "ratio", "method"):
        given = getattr(grid, key)
        twice = [value for value, times in Counter(given).items() if times > 1]
        if twice:
            raise ConfigError(f"{origin}: grid.{key}: {shortened(twice[0])} stands twice; give it once")
    refuse_unspeakable([*grid.dataset, *grid.method], f"{origin}: grid")
    return grid


def _problem(error: Any, origin: str) -> str:
    key = ".".join(["grid", *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        known = list(Grid.model_fields)
        return f"{origin}: {key}: unknown key; {did_you_mean(name, known)}known here: {', '.join(known)}"
    if error["type"] == "tuple_type":
        return f"{origin}: {key} = {shortened(error['input'])}: give a list, say [{str(error['input'])[:LONGEST_NAME]}]"
    if error["type"] == "too_short":
        return f"{origin}: {key} = []: names none; give one or more, or leave grid out"
    if error["type"] == "value_error":
        return f"{origin}: grid.{error['loc'][0]}: {error['ctx']['error']}"
    return f"{origin}: {key} = {shortened(error['input'])}: {rule_of(error)}"


def _methods(values: Any, origin: str) -> dict[str, str]:
    if not isinstance(values, dict) or not all(isinstance(spec, str) for spec in values.values()):
        raise ConfigError(
            f"{origin}: methods = {shortened(values)}: give names with a method each, say {{pcc_conv2: pcc@conv2}}"
        )
    refuse_unspeakable(values, f"{origin}: methods")
    return dict(values)


def refuse_unspeakable(names: Iterable[Any], where: str) -> None:
    """Raises ConfigError for names that no stage and no file of the pipeline can have."""
    for name in names:
        if len(str(name)) > LONGEST_NAME:
            raise ConfigError(
                f"{where}: {shortened(name)}: a name has at most {LONGEST_NAME} characters; name it under methods"
            )
        if not NAME.fullmatch(str(name)):
            raise ConfigError(
                f"{where}: {shortened(name)} cannot name a stage of the pipeline; name it under methods, "
                "say pcc_conv2: pcc@conv2, and use that name in grid.method"
            )


def _mappings(values: Any, where: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(values, dict) or not all(isinstance(section, dict) for section in values.values()):
        raise ConfigError(f"{where}: give the settings of each dataset under its name")
    _refuse_numbered(values, where)
    refuse_unspeakable(values, where)
    return dict(values)


def _refuse_unknown_datasets(file: ParamsFile) -> None:
    if file.grid and file.datasets:
        for name in file.grid.dataset:
            file.layer(name)
