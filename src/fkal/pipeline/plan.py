"""The pipeline's plan: what each of its stages reads, a file each, so that a change reaches only whom it concerns.

<root>/plan/mnist-100/split.yaml, pretrain.yaml, descriptors.yaml, methods/pfk_joint.yaml
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from fkal.atomic_files import write_whole
from fkal.cli.exit import MissingSettings
from fkal.cli.progress import say
from fkal.config.layers import Layer, from_file, known_variables, merged
from fkal.config.machine import HEARD, heard
from fkal.config.params_file import Grid
from fkal.config.schema import Config, ConfigError, configured
from fkal.data.registry import entry_of
from fkal.experiment.names import (
    ensemble_size,
    revision,
    settings_of_first_descriptors,
    settings_of_split,
    settings_of_theta_0,
    settings_read,
)
from fkal.experiment.versions import ALGO_VERSION
from fkal.models.settings import known_model
from fkal.pipeline.publish import CURVES, DESCRIPTORS, EXPERIMENTS, METRICS, PRETRAINED, SPLITS, TIMINGS
from fkal.pipeline.restore import adopt
from fkal.runner.expand import PARAMS, Sources, experiments

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
    """Write the plan of a params file's grid anew, and take back what was published (see `adopt`).

    What was published of other cells is taken away, since later stages depend on whole folders; finished iterations
    stay in the scratch folder, and DVC's cache has what it held. Raises ConfigError for names that nothing has.
    """
    for name in known_variables(os.environ):
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
    _clear(root, [name for name in files if "/methods/" in name])
    typer.echo(f"{root / PLAN}: {sum('/methods/' in name for name in files)} cells")


def _clear(root: Path, methods: Sequence[str]) -> None:
    """`methods` are the plan files of the cells that stay: `mnist-100/methods/pfk_joint.yaml`."""
    pairs = {name.split("/")[0] for name in methods}
    cells = {name.replace("/methods/", "-").removesuffix(".yaml") for name in methods}
    for kinds, kept in (((SPLITS, PRETRAINED, DESCRIPTORS), pairs), ((EXPERIMENTS, METRICS, CURVES, TIMINGS), cells)):
        for path in (path for kind in kinds for path in (root / kind).glob("*") if not path.name.startswith(".")):
            if path.is_dir() and path.name not in kept:
                shutil.rmtree(path)
            elif path.is_file() and path.stem not in kept:
                path.unlink()


def planned(path: Path, stage: str) -> Planned:
    """The work of the stage `split` or `experiment` that a plan file tells.

    Raises ConfigError for a file that this version did not write, or of another stage, MissingSettings for none.
    """
    is_experiment = path.parent.name == "methods"
    if is_experiment != (stage == "experiment") or (not is_experiment and path.stem != stage):
        files = "PLAN/DATASET-RATIO/methods/METHOD.yaml" if stage == "experiment" else "PLAN/DATASET-RATIO/split.yaml"
        raise ConfigError(f"--plan {path}: not the plan of this stage; give {files} of `fkal plan`")
    return _planned(path, _content(path))


def planned_methods(path: Path) -> list[Planned]:
    """The work for each method, of a plan file that has several. Raises ConfigError as `planned` does."""
    values = _content(path)
    methods = values.get("methods")
    if not isinstance(methods, list) or not methods:
        raise ConfigError(_foreign(path))
    return [_planned(path, {"algorithm": values.get("algorithm"), **method}) for method in methods]


def _content(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise MissingSettings(f"--plan {path}: there is no such file; make the plan of the grid: fkal plan")
    return from_file(path, str(path)).values


def _foreign(path: Path) -> str:
    return f"{path}: not a plan of this version of fkal (algorithm {ALGO_VERSION}); run: fkal plan"


def _planned(path: Path, values: Mapping[str, Any]) -> Planned:
    if values.get("algorithm") != ALGO_VERSION or not {"cell", "seeds", "settings"} <= set(values):
        raise ConfigError(_foreign(path))
    settings = values["settings"]
    layers = [Layer(str(path), settings), heard()]
    configs = tuple(merged([*layers, Layer(str(path), {"seed": seed})]) for seed in values["seeds"])
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
            for its in cells.values():
                configured(f"{pair}: data.name", entry_of, its[0].data.name)
                configured(f"{pair}: model.name", known_model, its[0].model.name)
            some = next(iter(cells.values()))
            yield f"{pair}/split.yaml", _stage(pair, some, settings_of_split(some[0]))
            pretrained = [_stage(f"{pair}/{name}", its, _theta_0(its[0])) for name, its in cells.items()]
            yield f"{pair}/pretrain.yaml", {"methods": pretrained}
            described = [
                {**_stage(f"{pair}/{name}", its, settings_of_first_descriptors(its[0])), **revision(its[0])}
                for name, its in cells.items()
            ]
            yield f"{pair}/descriptors.yaml", {"methods": described}
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
