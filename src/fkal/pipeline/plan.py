"""The pipeline's plan: what each of its stages reads, a file each, so that a change reaches only whom it concerns.

<root>/plan/mnist-100/split.yaml, pretrain.yaml, descriptors.yaml, methods/pfk_joint.yaml
"""

import os
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fkal.atomic_files import write_whole
from fkal.config.documents import file_there
from fkal.config.layers import Layer, from_file, known_variables, merged
from fkal.config.machine import MACHINE_VARIABLES, machine_layer
from fkal.config.params_file import MOST_EXPERIMENTS, Grid
from fkal.config.schema import LARGEST_SEED, Config, ConfigError, configured, flattened
from fkal.data.file_digests import FileDigests
from fkal.data.registry import entry_of
from fkal.data.settings import DataConfig
from fkal.data.sources import ABSENT, source_digest
from fkal.errors import MissingSettings, listed, shortened
from fkal.experiment.names import (
    ensemble_size,
    label_revision,
    revision,
    settings_of_first_descriptors,
    settings_of_split,
    settings_of_theta_0,
    settings_read,
)
from fkal.experiment.versions import ALGO_VERSION
from fkal.folders import below
from fkal.identifiers import CELL, DIGEST, GRID_NAME, cell_name, method_cell_name
from fkal.models.settings import known_model
from fkal.notify import Notify, on_standard_error
from fkal.paths import DIGESTS
from fkal.pipeline.published import (
    DESCRIPTORS,
    EXPERIMENTS,
    PRETRAINED,
    SPLITS,
    SUFFIXES,
    cell_file,
    refuse_foreign,
    remove_published,
)
from fkal.pipeline.restore import restore
from fkal.runner.expand import PARAMS, Sources, experiments, refuse_one_method_twice

PLAN = "plan"
SOURCE = "source"
"""Key of a split's plan: the digest of the files that images come from."""
IDENTITY = ("name", "folder")
"""Settings of `data` that say which images are meant."""
FILES = rf"{CELL}/((split|pretrain|descriptors)|methods/{GRID_NAME})\.yaml"
"""Names of the plan's files."""


class StageWork(BaseModel):
    """A plan file's own words: a seed for each experiment, the settings that the stage reads.

    Beside these it has the cell, whose grammar is checked apart, and the versions of what makes its results.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    seeds: list[Annotated[int, Field(ge=0, le=LARGEST_SEED)]] = Field(min_length=1, max_length=MOST_EXPERIMENTS)
    settings: dict[str, Any]


@dataclass(frozen=True)
class StageJob:
    """A stage's work: the name of its cell, and a configuration for each seed.

    `root` holds what is published; `data` is that section of the plan, which the environment has no part in.
    """

    cell: str
    configs: tuple[Config, ...]
    root: Path
    data: Mapping[str, Any]


def plan(
    params: Path | None, root: Path, out: Path, notify: Notify = on_standard_error, *, verify: bool = False
) -> int:
    """Write the plan of a params file's grid, and take back what was published (see `restore`); returns its cells.

    The plan of a split has a digest of the files that its images come from, so that a changed image draws it again.
    With `verify` these files are read although nothing says that they changed.

    What was published of other cells is taken away, since later stages depend on whole folders; finished rounds
    stay in the scratch folder, and DVC's cache has what it held. Raises ConfigError for names that nothing has,
    UnsafeName for what it would have to take away and did not write.
    """
    for name in known_variables(os.environ):
        if name not in MACHINE_VARIABLES:
            notify(f"warning: the pipeline does not read {name}; set it in {params or PARAMS}")
    sources = PlannedSources(root, FileDigests(below(out, DIGESTS), notify, verify=verify), notify)
    files = dict(_files(params, sources))
    _refuse_no_folder(root)
    restore(root, out, notify)
    methods = [name for name in files if "/methods/" in name]
    left_over = _left_over(root, methods)
    _clear_plan(root, files)
    for name, content in files.items():
        path = below(root, f"{PLAN}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump({"algorithm": ALGO_VERSION, **content}, sort_keys=False).encode())
    for kind, name in left_over:
        remove_published(root, kind, name)
    _clear_files(root, _cells(methods))
    return len(methods)


def _refuse_no_folder(root: Path) -> None:
    """Raises ConfigError where no folder can be."""
    if file_there(root, f"--root {root}") and not root.is_dir():
        raise ConfigError(f"--root {root}: is a file; name a folder")


def _clear_plan(root: Path, kept: Container[str]) -> None:
    """Files of an earlier plan go; others stay."""
    for old in sorted(below(root, PLAN).rglob("*.yaml")):
        name = old.relative_to(root / PLAN).as_posix()
        if name not in kept and re.fullmatch(FILES, name):
            below(root, f"{PLAN}/{name}").unlink()


def _left_over(root: Path, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and name of the published folders that belong to no cell of the plan.

    `methods` are its files of methods: `mnist-100/methods/pfk_joint.yaml`. Raises UnsafeName where one of the
    folders is not fkal's own.
    """
    pairs, cells = {name.split("/")[0] for name in methods}, _cells(methods)
    kept = {SPLITS: pairs, PRETRAINED: pairs, DESCRIPTORS: pairs, EXPERIMENTS: cells}
    folders = [(kind, name) for kind, names in kept.items() for name in _folders(root / kind) if name not in names]
    for kind, name in folders:
        refuse_foreign(root, kind, name)
    return folders


def _cells(methods: Sequence[str]) -> set[str]:
    return {name.replace("/methods/", "-").removesuffix(".yaml") for name in methods}


def _clear_files(root: Path, cells: Container[str]) -> None:
    """Metrics, curves and timings of other cells go."""
    for kind, suffix in SUFFIXES.items():
        for path in (root / kind).glob(f"*{suffix}"):
            if path.stem not in cells and re.fullmatch(CELL, path.stem):
                cell_file(root, kind, path.stem).unlink()


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


def planned(path: Path, stage: str) -> StageJob:
    """The work of the stage `split` or `experiment` that a plan file tells.

    Raises ConfigError for a file that this version did not write, or of another stage, MissingSettings for none.
    """
    is_experiment = path.parent.name == "methods"
    if is_experiment != (stage == "experiment") or (not is_experiment and path.stem != stage):
        files = "PLAN/DATASET-RATIO/methods/METHOD.yaml" if stage == "experiment" else "PLAN/DATASET-RATIO/split.yaml"
        raise ConfigError(f"--plan {path}: not the plan of this stage; give {files} of `fkal plan`")
    return _planned(path, _content(path), stage)


def planned_methods(path: Path, stage: str) -> list[StageJob]:
    """The work for each method, of a plan file that has several: `pretrain` or `descriptors`.

    Raises ConfigError as `planned` does.
    """
    if path.stem != stage:
        raise ConfigError(
            f"--plan {path}: not the plan of this stage; give PLAN/DATASET-RATIO/{stage}.yaml of `fkal plan`"
        )
    values = _content(path)
    methods = values.get("methods")
    if not isinstance(methods, list) or not methods or not all(isinstance(method, dict) for method in methods):
        raise ConfigError(_foreign(path))
    algorithm = values.get("algorithm")
    return [_planned(path, {"algorithm": algorithm, **method}, stage) for method in methods]


def _content(path: Path) -> Mapping[str, Any]:
    if not file_there(path, f"--plan {path}"):
        raise MissingSettings(f"--plan {path}: there is no such file; make the plan of the grid: fkal plan")
    return from_file(path, str(path)).values


def _foreign(path: Path) -> str:
    return f"{path}: not a plan of this version of fkal (algorithm {ALGO_VERSION}); run: fkal plan"


def _planned(path: Path, values: Mapping[str, Any], stage: str) -> StageJob:
    if values.get("algorithm") != ALGO_VERSION or not {"cell", "seeds", "settings"} <= set(values):
        raise ConfigError(_foreign(path))
    named = method_cell_name if stage in SEVERAL else cell_name
    cell = named(values["cell"], f"{path}: cell")
    work = _stage_work(path, values)
    whole = Path(os.path.abspath(path))  # noqa: PTH100  a plan that was linked here keeps its place
    is_method = whole.parent.name == "methods"
    folder = whole.parent.parent if is_method else whole.parent
    _refuse_other_cell(path, cell, folder.name, stage)
    _refuse_left_out(path, work, stage)
    layers = [Layer(str(path), work.settings), machine_layer()]
    configs = tuple(merged([*layers, Layer(str(path), {"seed": seed})]) for seed in work.seeds)
    root = Path(os.path.relpath(folder.parent.parent)) if not path.is_absolute() else folder.parent.parent
    return StageJob(cell, configs, root, work.settings["data"])


def _refuse_other_cell(path: Path, cell: str, pair: str, stage: str) -> None:
    """Raises ConfigError where the file is a copy of another's: its work would be published as that one's."""
    wanted = {"split": pair, "experiment": f"{pair}-{path.stem}"}.get(stage, f"{pair}/")
    if not (cell.startswith(wanted) if stage in SEVERAL else cell == wanted):
        own = f"{wanted}METHOD" if stage in SEVERAL else wanted
        raise ConfigError(f"{path}: cell: {cell!r}: the plan of this place is that of {own}; make it again: fkal plan")


def _refuse_left_out(path: Path, work: StageWork, stage: str) -> None:
    """Raises ConfigError for a plan without a setting that `fkal plan` writes: its default would be taken unseen."""
    config = merged([Layer(str(path), work.settings)])
    there = {key for key, _ in flattened(work.settings)}
    gone = [key for key, _ in flattened(SETTINGS[stage](config)) if key not in there]
    if gone:
        raise ConfigError(f"{path}: settings: {listed(gone)} left out; make it again: fkal plan")


def _stage_work(path: Path, values: Mapping[str, Any]) -> StageWork:
    """Raises ConfigError, a line for each value that is none."""
    try:
        return StageWork.model_validate(dict(values))
    except ValidationError as error:
        problems = dict.fromkeys(
            f"{path}: {each['loc'][0]} = {shortened(values.get(str(each['loc'][0])))}: {each['msg'].lower()}; "
            "make it again: fkal plan"
            for each in error.errors()
        )
        raise ConfigError("\n".join(problems)) from None


class PlannedSources:
    """Digests of the images' files, for the plans of splits. A dataset is looked at once, whatever its ratios."""

    def __init__(self, root: Path, digests: FileDigests, notify: Notify) -> None:
        self._root = root
        self._digests = digests
        self._notify = notify
        self._known: dict[DataConfig, str] = {}

    def of(self, pair: str, config: Config) -> str:
        """`absent` for images that are not here yet.

        Where they were here before, the plan that is there keeps its digest: what was drawn from them is still theirs.
        """
        data = merged([Layer("plan", config.tree), machine_layer()]).data
        if data not in self._known:
            self._known[data] = source_digest(data, self._digests)
        digest = self._known[data]
        before = self._before(pair, config) if digest == ABSENT else None
        if before is None:
            return digest
        self._notify(f"{pair}: its images are not here, and are taken to be those that the split was drawn from")
        return before

    def _before(self, pair: str, config: Config) -> str | None:
        """The digest in the plan that is there, if it is of the same dataset."""
        path = below(self._root, f"{PLAN}/{pair}/split.yaml")
        try:
            values = from_file(path, str(path)).values
            data, digest = values["settings"]["data"], values[SOURCE]
        except (ConfigError, OSError, KeyError, TypeError):
            return None
        is_same = isinstance(data, Mapping) and all(data.get(key) == config.tree["data"][key] for key in IDENTITY)
        return digest if is_same and isinstance(digest, str) and re.fullmatch(DIGEST, digest) else None


def _files(params: Path | None, image_sources: PlannedSources) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each plan file's name and content."""
    sources = Sources(params=params, environment={})
    grid = _whole_grid(sources)
    for dataset in grid.dataset:
        for ratio in grid.ratio:
            pair = f"{dataset}-{ratio}"
            here = Sources(params=params or PARAMS, dataset=dataset, ratio=str(ratio), environment={})
            cells = {method: experiments(here, method, None) for method in grid.method}
            refuse_one_method_twice(str(params or PARAMS), chain.from_iterable(cells.values()))
            for its in cells.values():
                configured(f"{pair}: data.name", entry_of, its[0].data.name)
                configured(f"{pair}: model.name", known_model, its[0].model.name)
            some = next(iter(cells.values()))
            split = _stage(pair, some, settings_of_split(some[0]))
            yield f"{pair}/split.yaml", {**split, SOURCE: image_sources.of(pair, some[0])}
            pretrained = [_stage(f"{pair}/{name}", its, _theta_0(its[0])) for name, its in cells.items()]
            yield f"{pair}/pretrain.yaml", {"methods": pretrained}
            described = [
                {**_stage(f"{pair}/{name}", its, settings_of_first_descriptors(its[0])), **label_revision(its[0])}
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


SEVERAL = ("pretrain", "descriptors")
"""Stages whose plan has the work of each method."""
SETTINGS: Mapping[str, Callable[[Config], Mapping[str, Any]]] = {
    "split": settings_of_split,
    "pretrain": _theta_0,
    "descriptors": settings_of_first_descriptors,
    "experiment": settings_read,
}
"""What the plan of a stage says of a configuration."""
