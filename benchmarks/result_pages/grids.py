"""The grids of `results.yaml`: every experiment that a table of results is made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fkal.config.documents import yaml_of_file
from fkal.config.params_file import seed_numbers
from fkal.config.schema import Config, ConfigError, about_data, digest_of
from fkal.errors import did_you_mean, shortened
from fkal.experiment.names import algorithm, method_name, settings_read
from fkal.runner.expand import Sources, experiments

ROOT = Path(__file__).resolve().parents[2]
GRIDS = ROOT / "benchmarks" / "results.yaml"
RECIPE_DIGITS = 12
ON_CPU = {"device": "cpu"}
"""Main tables are those of a processor."""


class Machine(NamedTuple):
    """Where this machine has images and the file of pretrained weights; no row depends on these places."""

    data_root: Path | None = None
    weights: Path | None = None


ANYWHERE = Machine()


class Tier(NamedTuple):
    """Methods of a grid that have the same seeds, and what an experiment takes as long as nobody has measured it."""

    seeds: str
    methods: Sequence[str]
    seconds: float


class Grid(NamedTuple):
    """Experiments with the same settings, whose rows belong to one page; `columns` are the metrics that are kept."""

    name: str
    page: str
    preset: str
    settings: Mapping[str, Any]
    columns: Sequence[str]
    tiers: Sequence[Tier]
    title: str = ""
    """The setting in words, for tables of several grids."""


class Job(NamedTuple):
    """One experiment of a grid: a method by its full name, and a seed.

    `recipe` is a digest of all that decides on its rows but images, weights and seed. It needs no data, so that
    whoever has only the rows knows which of them are still those of today's program.
    """

    grid: Grid
    tier: int
    method: str
    config: Config
    recipe: str

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def key(self) -> tuple[str, str, int]:
        return self.grid.name, self.method, self.seed

    @property
    def title(self) -> str:
        return f"{self.grid.name} {self.method} s{self.seed}"


class Plan(NamedTuple):
    """What `results.yaml` says: the grids by name, and the methods of the README's table, which are of one grid."""

    grids: Mapping[str, Grid]
    readme_grid: str
    readme_methods: Sequence[str]

    def chosen(self, names: str | None) -> list[Grid]:
        """The named grids, or all. Raises ConfigError for a name that is none."""
        if names is None:
            return list(self.grids.values())
        for name in names.split(","):
            if name not in self.grids:
                near = did_you_mean(name, self.grids)
                raise ConfigError(f"--grid {shortened(name)}: no such grid; {near}there are {', '.join(self.grids)}")
        return [self.grids[name] for name in names.split(",")]


def read_plan(path: Path = GRIDS) -> Plan:
    """The plan of a file such as `results.yaml`."""
    content = yaml_of_file(path, str(path))
    grids = {
        name: Grid(
            name=name,
            page=page,
            preset=grid["preset"],
            settings=grid.get("settings", {}),
            columns=section["columns"],
            title=grid.get("title", name),
            tiers=[Tier(str(tier["seeds"]), tier["methods"], float(tier["seconds"])) for tier in grid["tiers"]],
        )
        for page, section in content["pages"].items()
        for name, grid in section["grids"].items()
    }
    return Plan(grids, content["readme"]["grid"], content["readme"]["methods"])


def jobs_of(grid: Grid, machine: Machine = ANYWHERE) -> list[Job]:
    """Every experiment of the grid: tier by tier, and within a tier seed by seed over its methods."""
    found = []
    for place, tier in enumerate(grid.tiers):
        methods = [Job(grid, place, method_name(each), each, recipe(each)) for each in _configs(grid, tier, machine)]
        for seed in seed_numbers(tier.seeds, f"seeds of {grid.name}"):
            found += [job._replace(config=job.config.model_copy(update={"seed": seed})) for job in methods]
    return found


def recipes_of(grid: Grid) -> dict[str, str]:
    """The recipe of each method by its full name, in the order of the file."""
    configs = [config for tier in grid.tiers for config in _configs(grid, tier, ANYWHERE)]
    return {method_name(config): recipe(config) for config in configs}


def first_config(grid: Grid) -> Config:
    """Settings that all experiments of the grid share are those of this one."""
    return _expanded(grid, {**ON_CPU, **grid.settings}, grid.tiers[0].methods[:1], ANYWHERE)[0]


def recipe(config: Config) -> str:
    """Settings that are read, and the versions of algorithm, method and labels."""
    settings = settings_read(config)
    model = {name: value for name, value in settings["model"].items() if name != "weights"}
    settings = {**settings, "data": about_data(config.tree), "model": model}
    return digest_of([settings, algorithm(config)])[:RECIPE_DIGITS]


def _configs(grid: Grid, tier: Tier, machine: Machine) -> list[Config]:
    """The configuration of each method, with seed 0."""
    given = {**ON_CPU, **grid.settings}
    configs = _expanded(grid, given, tier.methods, machine)
    if machine.weights is None or not configs[0].model.is_pretrained:
        return configs
    return _expanded(grid, {**given, "model.weights": str(machine.weights)}, tier.methods, machine)


def _expanded(grid: Grid, given: Mapping[str, Any], methods: Sequence[str], machine: Machine) -> list[Config]:
    """As `fkal run --preset ... --set ... --untuned` has them, whatever the environment sets."""
    sources = Sources(
        preset=grid.preset,
        data_root=machine.data_root,
        assignments=[f"{key}={json.dumps(value)}" for key, value in given.items()],
        environment={},
        tuned=None,
    )
    return experiments(sources, ",".join(methods), "0")
