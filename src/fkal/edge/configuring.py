"""From the options of a command to configurations, one for each method and seed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
import yaml

from fkal import config as configuration
from fkal.config import Config, ConfigError, Layer

PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Sources:
    """Where settings come from, as the options of every command name them."""

    preset: str | None
    params: Path | None
    data_root: Path | None
    assignments: Sequence[str]

    def layers(self) -> list[Layer]:
        """The file, the environment, the options. Raises FileNotFoundError without a file."""
        for name in configuration.strangers(os.environ):
            typer.secho(f"warning: {name} sets nothing; is it misspelt?", err=True, fg="yellow")
        options = configuration.from_assignments(self.assignments)
        root = {} if self.data_root is None else {"data": {"root": str(self.data_root)}}
        return [
            self._file(),
            configuration.from_environment(os.environ),
            Layer("--data-root", root),
            options,
        ]

    def _file(self) -> Layer:
        if self.preset and self.params:
            raise ConfigError("--preset and --params both name the settings' file; give one of them")
        if self.preset:
            return configuration.from_file(configuration.preset(self.preset), f"preset {self.preset}")
        path = self.params or PARAMS
        if not path.exists():
            raise FileNotFoundError(
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
            configs.append(configuration.merged([*layers, *chosen, *seed]))
    return configs


def seed_numbers(text: str) -> list[int]:
    """`0-2,7` as [0, 1, 2, 7]. Raises ConfigError for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise ConfigError(f"--seeds {text!r}: {part!r} is neither a seed nor a range; say 0-4 or 0,2,5")
        numbers += range(int(first), int(last if dash else first) + 1)
    return list(dict.fromkeys(numbers))


def shown(config: Config, *, as_json: bool) -> str:
    """The resolved tree and its digest, as YAML that `--params` reads, or as JSON."""
    if as_json:
        return json.dumps({"digest": config.digest, "config": config.tree}) + "\n"
    return f"# digest: {config.digest}\n" + yaml.safe_dump(config.tree, sort_keys=False)
