"""The pipeline's plan: what each of its stages reads, a file each, so that a change reaches only whom it concerns.

<root>/plan/mnist-100/split.yaml, pretrain.yaml, descriptors.yaml, methods/pfk_joint.yaml
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from fkal import config as configuration
from fkal.algorithm import ALGO_VERSION
from fkal.config import Config, ConfigError, Layer
from fkal.edge.adopting import adopt
from fkal.edge.configuring import PARAMS, Sources, experiments
from fkal.edge.progress import say
from fkal.edge.whereabouts import HEARD, heard
from fkal.experiment import ensemble_size
from fkal.files import write_whole
from fkal.grid import Grid
from fkal.identity import revision, settings_of_first_descriptors, settings_of_split, settings_of_theta_0, settings_read

PLAN = "plan"


@dataclass(frozen=True)
class Planned:
    """A stage's work: the name of its cell, and a configuration for each seed.

    `root` holds what is published; `data` is that section of the plan, which the environment has no part in.
    """

    cell: str
    configs: tuple[Config, ...]
    root: Path
    data: Mapping[str, Any]


def plan(params: Path | None, root: Path, out: Path) -> None:
    """Write the plan of a params file's grid anew, and take back what was published (see `adopt`)."""
    for name in configuration.configuring(os.environ):
        if name not in HEARD:
            say(f"warning: the pipeline does not read {name}; set it in {params or PARAMS}")
    adopt(root, out, say)
    files = dict(_files(params))
    for old in sorted((root / PLAN).rglob("*.yaml")):
        if old.relative_to(root / PLAN).as_posix() not in files:
            old.unlink()
    for name, content in files.items():
        path = root / PLAN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump({"algorithm": ALGO_VERSION, **content}, sort_keys=False).encode())
    typer.echo(f"{root / PLAN}: {sum('/methods/' in name for name in files)} cells")


def planned(path: Path) -> Planned:
    """The work that a plan file tells. Raises ConfigError for a file that this version did not write."""
    return _planned(path, configuration.from_file(path, str(path)).values)


def planned_methods(path: Path) -> list[Planned]:
    """The work for each method, of a plan file that has several. Raises ConfigError as `planned` does."""
    values = configuration.from_file(path, str(path)).values
    methods = values.get("methods")
    if not isinstance(methods, list) or not methods:
        raise ConfigError(_foreign(path))
    return [_planned(path, {"algorithm": values.get("algorithm"), **method}) for method in methods]


def _foreign(path: Path) -> str:
    return f"{path}: not a plan of this version of fkal (algorithm {ALGO_VERSION}); run: fkal plan"


def _planned(path: Path, values: Mapping[str, Any]) -> Planned:
    if values.get("algorithm") != ALGO_VERSION or not {"cell", "seeds", "settings"} <= set(values):
        raise ConfigError(_foreign(path))
    settings = values["settings"]
    layers = [Layer(str(path), settings), heard()]
    configs = tuple(configuration.merged([*layers, Layer(str(path), {"seed": seed})]) for seed in values["seeds"])
    folder = path.parent.parent if path.parent.name == "methods" else path.parent
    return Planned(str(values["cell"]), configs, folder.parent.parent, settings.get("data", {}))


def _files(params: Path | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each plan file's name and content."""
    sources = Sources(params=params, environment={})
    grid = _whole_grid(sources)
    for dataset in grid.dataset:
        for ratio in grid.ratio:
            pair = f"{dataset}-{ratio}"
            here = Sources(params=params or PARAMS, dataset=dataset, ratio=str(ratio), environment={})
            cells = {method: experiments(here, method, None) for method in grid.method}
            some = next(iter(cells.values()))
            yield f"{pair}/split.yaml", _stage(pair, some, settings_of_split(some[0]))
            for stage, read in {"pretrain": _theta_0, "descriptors": settings_of_first_descriptors}.items():
                methods = [_stage(f"{pair}/{name}", its, read(its[0])) for name, its in cells.items()]
                yield f"{pair}/{stage}.yaml", {"methods": methods}
            for method, configs in cells.items():
                cell = _stage(f"{pair}-{method}", configs, settings_read(configs[0]))
                yield f"{pair}/methods/{method}.yaml", {**cell, **revision(configs[0])}


def _whole_grid(sources: Sources) -> Grid:
    file = sources.file()
    if file.grid is None or not file.grid.ratio or not file.datasets:
        raise ConfigError(
            f"{file.origin}: the pipeline wants a grid with dataset, ratio, method and seeds, and datasets; "
            "write one: fkal grid --dataset mnist --ratio 100 --method random,pfk_joint > params.yaml"
        )
    return file.grid


def _stage(cell: str, configs: Sequence[Config], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The device, which changes who computes and not what is asked for, stands there where it is chosen."""
    device = {} if configs[0].device == "auto" else {"device": configs[0].device}
    return {"cell": cell, "seeds": [config.seed for config in configs], "settings": {**settings, **device}}


def _theta_0(config: Config) -> dict[str, Any]:
    """What a method's pretrained weights are made of; an ensemble's are made for each of its members."""
    size = ensemble_size(config)
    ensemble = {"name": config.acquisition.name, "ensemble": size} if size > 1 else {"name": "random"}
    return {**settings_of_theta_0(config), "acquisition": {**ensemble, "budget": 1, "rounds": 1}}
