"""From the options of a command to configurations, one for each method and seed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from fkal import config as configuration
from fkal.acquisition import acquisition
from fkal.config import Config, ConfigError, Layer
from fkal.edge.answers import MissingSettings
from fkal.feasibility import configured

PARAMS = Path("params.yaml")
MOST_SEEDS = 1000
OTHER_SECTIONS = frozenset({"tune"})
"""Of a params file, which are read elsewhere and are no part of an experiment."""


@dataclass(frozen=True)
class Sources:
    """Where settings come from, as the options of every command name them."""

    preset: str | None
    params: Path | None
    data_root: Path | None
    assignments: Sequence[str]

    def layers(self) -> list[Layer]:
        """The file, the environment, the options. Raises MissingSettings without a file."""
        for name in configuration.strangers(os.environ):
            typer.secho(f"warning: {name} sets nothing; is it misspelt?", err=True, fg="yellow")
        options = configuration.from_assignments(self.assignments)
        root = {} if self.data_root is None else {"data": {"root": str(self.data_root)}}
        file = self._file()
        values = {key: value for key, value in file.values.items() if key not in OTHER_SECTIONS}
        return [
            Layer(file.origin, values),
            configuration.from_environment(os.environ),
            Layer("--data-root", root),
            options,
        ]

    def section(self, name: str) -> Any:
        """One of the other sections of the file, as it stands there; None where there is none."""
        return self._file().values.get(name)

    def _file(self) -> Layer:
        if self.preset and self.params:
            raise ConfigError("--preset and --params both name the settings' file; give one of them")
        if self.preset:
            return configuration.from_file(configuration.preset(self.preset), f"preset {self.preset}")
        path = self.params or PARAMS
        if not path.exists():
            raise MissingSettings(
                f"no {path} here; name a preset, say --preset digits, or write one: "
                f"fkal config --preset digits > {path}"
            )
        return configuration.from_file(path, str(path))


def experiments(sources: Sources, methods: str | None, seeds: str | None) -> list[Config]:
    """One configuration for each method and seed, methods outermost."""
    layers = sources.layers()
    specs = [spec.strip() for spec in methods.split(",")] if methods else [None]
    numbers = [None] if seeds is None else seed_numbers(seeds)
    configs = []
    for spec in specs:
        chosen = [] if spec is None else [configuration.method_layer(spec)]
        for number in numbers:
            seed = [] if number is None else [Layer("--seeds", {"seed": number})]
            config = configuration.merged([*layers, *chosen, *seed])
            _refuse_unread(spec, config)
            configs.append(config)
    return configs


UNREAD = {
    "combine": "has no two kernels to combine; leave {mark} out",
    "taps": "reads no layer; leave out what follows '@'",
    "ensemble": "asks one model alone; leave {mark} out",
    "samples": "draws no Monte Carlo samples; leave {mark} out",
}


def _refuse_unread(spec: str | None, config: Config) -> None:
    """Raises ConfigError where a method's short name sets what that method does not read."""
    entry = configured("acquisition.name", acquisition, config.acquisition.name)
    if spec is None:
        return
    said = configuration.method_layer(spec).values["acquisition"]
    reads = entry.reads(config.acquisition.pseudo_label)
    for key, why in UNREAD.items():
        if key in said and key not in reads:
            mark = {"ensemble": ":e", "samples": ":k"}.get(key, ":") + str(said[key])
            raise ConfigError(f"--method {spec!r}: {config.acquisition.name} {why.format(mark=repr(mark))}")


def seed_numbers(text: str) -> list[int]:
    """`0-2,7` as [0, 1, 2, 7]. Raises ConfigError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) <= 9 for end in ends) or int(ends[-1]) < int(first):
            raise ConfigError(f"--seeds {text!r}: {part!r} is neither a seed nor a range; say 0-4 or 0,2,5")
        if int(ends[-1]) - int(first) >= MOST_SEEDS:
            raise ConfigError(f"--seeds {text!r}: {part!r} are more than {MOST_SEEDS} seeds; give fewer")
        numbers += range(int(first), int(ends[-1]) + 1)
    return list(dict.fromkeys(numbers))


def shown(configs: Sequence[Config], *, as_json: bool) -> str:
    """The resolved tree and its digest, as YAML that `--params` reads, or as JSON.

    Raises ConfigError for several: a params file holds one.
    """
    if len(configs) > 1:
        raise ConfigError(f"--method names {len(configs)} methods; a configuration has one")
    (config,) = configs
    if as_json:
        return json.dumps({"digest": config.digest, "config": config.tree}) + "\n"
    return f"# digest: {config.digest}\n" + yaml.safe_dump(config.tree, sort_keys=False)
