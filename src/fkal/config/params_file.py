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

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fkal.config.layers import Layer, from_file
from fkal.config.schema import Config, ConfigError
from fkal.errors import did_you_mean

SECTIONS = ("grid", "methods", "datasets", "tune")
"""What a params file may hold beside the settings of an experiment."""

NAME = re.compile(r"[A-Za-z0-9_.:+-]+")
"""What a cell's file and its stage can be called; DVC takes no @ in the name of a stage."""

MOST_SEEDS = 1000


class Grid(BaseModel):
    """What is compared. `ratio` is `bias.ratio`; empty leaves the one of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: tuple[str, ...] = Field(min_length=1)
    ratio: tuple[int | float, ...] = ()
    method: tuple[str, ...] = Field(min_length=1)
    seeds: Annotated[str, BeforeValidator(str)] = "0"


@dataclass(frozen=True)
class ParamsFile:
    """`settings` are one experiment's; instead, `datasets` has them by name. `methods` has short names by name."""

    origin: str
    settings: Mapping[str, Any]
    datasets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    grid: Grid | None = None
    methods: Mapping[str, str] = field(default_factory=dict)
    tune: Any = None

    def layer(self, dataset: str | None) -> Layer:
        """The settings of a dataset, or the only ones. Raises ConfigError for one that the file has not."""
        if not self.datasets:
            return Layer(self.origin, self.settings)
        if dataset is None or dataset not in self.datasets:
            known = ", ".join(self.datasets)
            hint = did_you_mean(dataset or "", self.datasets)
            raise ConfigError(
                f"{self.origin}: datasets has no {dataset!r}; {hint}it has: {known}; "
                "`fkal grid` prints a file with others"
            )
        return Layer(f"{self.origin}: datasets.{dataset}", self.datasets[dataset])

    def short_name(self, method: str) -> str:
        """What a method's name in the grid stands for."""
        return self.methods.get(method, method)


def params_file(path: Path, origin: str) -> ParamsFile:
    """A params file, its grid checked; settings are checked where an experiment is made of them.

    Raises ConfigError for what is wrong in it.
    """
    values = dict(from_file(path, origin).values)
    sections = {name: values.pop(name) for name in SECTIONS if name in values}
    if "datasets" in sections and values:
        raise ConfigError(f"{origin}: {', '.join(values)} beside datasets; settings stand under datasets.NAME")
    unknown = [key for key in values if key not in Config.model_fields]
    if unknown and sections:
        raise ConfigError(
            f"{origin}: {unknown[0]}: unknown key; {did_you_mean(unknown[0], SECTIONS)}known: {', '.join(SECTIONS)}"
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


def seed_numbers(text: str, origin: str = "--seeds") -> list[int]:
    """`0-2,7` as [0, 1, 2, 7]. Raises ConfigError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) <= 9 for end in ends) or int(ends[-1]) < int(first):
            raise ConfigError(f"{origin} {text!r}: {part!r} is neither a seed nor a range; say 0-4 or 0,2,5")
        if int(ends[-1]) - int(first) >= MOST_SEEDS:
            raise ConfigError(f"{origin} {text!r}: {part!r} are more than {MOST_SEEDS} seeds; give fewer")
        numbers += range(int(first), int(ends[-1]) + 1)
    return list(dict.fromkeys(numbers))


def _grid(values: Any, origin: str) -> Grid | None:
    if values is None:
        return None
    try:
        grid = Grid.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(_problem(e, origin) for e in error.errors())  # a number can be none in two ways
        raise ConfigError("\n".join(problems)) from None
    for key in ("dataset", "ratio", "method"):
        given = getattr(grid, key)
        twice = [value for value in given if given.count(value) > 1]
        if twice:
            raise ConfigError(f"{origin}: grid.{key}: {twice[0]!r} stands twice; give it once")
    _refuse_unspeakable([*grid.dataset, *grid.method], f"{origin}: grid")
    return grid


def _problem(error: Any, origin: str) -> str:
    key = ".".join(["grid", *map(str, error["loc"])])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        known = list(Grid.model_fields)
        return f"{origin}: {key}: unknown key; {did_you_mean(name, known)}known here: {', '.join(known)}"
    if error["type"] == "tuple_type":
        return f"{origin}: {key} = {error['input']!r}: give a list, say [{error['input']}]"
    if error["type"] == "too_short":
        return f"{origin}: {key} = []: names none; give one or more, or leave grid out"
    if error["type"] in ("int_parsing", "float_parsing"):
        return f"{origin}: grid.{error['loc'][0]}: {error['input']!r} is no number; give some, say [1, 100]"
    return f"{origin}: {key} = {error['input']!r}: {error['msg'].lower()}"


def _methods(values: Any, origin: str) -> dict[str, str]:
    if not isinstance(values, dict) or not all(isinstance(spec, str) for spec in values.values()):
        raise ConfigError(
            f"{origin}: methods = {values!r}: give names with a method each, say {{pcc_conv2: pcc@conv2}}"
        )
    _refuse_unspeakable(values, f"{origin}: methods")
    return dict(values)


def _refuse_unspeakable(names: Any, where: str) -> None:
    for name in names:
        if not NAME.fullmatch(str(name)):
            raise ConfigError(
                f"{where}: {name!r} cannot name a stage of the pipeline; name it under methods, "
                "say pcc_conv2: pcc@conv2, and use that name in grid.method"
            )


def _mappings(values: Any, where: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(values, dict) or not all(isinstance(section, dict) for section in values.values()):
        raise ConfigError(f"{where}: give the settings of each dataset under its name")
    return {str(name): section for name, section in values.items()}


def _refuse_unknown_datasets(file: ParamsFile) -> None:
    if file.grid and file.datasets:
        for name in file.grid.dataset:
            file.layer(name)
