"""From the options of a command to configurations, one for each dataset, ratio, method and seed."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import yaml

from fkal.acquisition.registry import acquisition
from fkal.config.documents import file_there
from fkal.config.layers import (
    Layer,
    flattened_leaves,
    from_assignments,
    from_environment,
    merged,
    preset,
    same_value,
    unknown_variables,
    yaml_value,
)
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.config.method_spec import method_layer
from fkal.config.params_file import MOST_EXPERIMENTS, ParamsFile, params_file, seed_numbers
from fkal.config.schema import LONGEST_NAME, SET, Config, ConfigError, configured
from fkal.config.tuned import tuned_layer, tuned_path
from fkal.data.file_digests import FileDigests
from fkal.data.registry import entry_of
from fkal.data.settings import EMBEDDINGS, OF_IMAGES, DataConfig, require_folder
from fkal.data.sources import ABSENT, UNKNOWN, source_digest
from fkal.errors import MissingSettings, shortened
from fkal.escaping import json_text
from fkal.experiment.names import dataset_name, experiment_name, shown_name
from fkal.folders import below
from fkal.models.settings import DEFAULT_WEIGHTS, LINEAR, PROGRAM, known_model
from fkal.notify import Notify, on_standard_error
from fkal.paths import DIGESTS, TUNED

PARAMS = Path("params.yaml")
LONGEST_EXPERIMENT = 240
"""Bytes of an experiment's name, which files and stored runs have."""


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """What experiments start from, by options: a pretrained model, the license of its weights, own embeddings."""

    backbone: str | None = None
    accept_license: str | None = None
    embeddings: Path | None = None

    def layers(self, assigned: Layer) -> list[Layer]:
        """What the options stand for. `--set model.weights` names other weights of the backbone."""
        if self.backbone and self.embeddings:
            raise ConfigError("--backbone and --embeddings exclude each other: own embeddings need no backbone")
        model = {"name": self.backbone} if self.backbone else {}
        if self.backbone and not self.backbone.endswith(PROGRAM) and not _gives(assigned, "model", "weights"):
            model["weights"] = DEFAULT_WEIGHTS
        found = [Layer("--backbone", {"model": model})] if model else []
        if self.accept_license:
            found.append(Layer("--accept-license", {"model": {"accept_license": self.accept_license}}))
        if self.embeddings:
            data = {"name": EMBEDDINGS, "embeddings": str(self.embeddings), **dict.fromkeys(OF_IMAGES)}
            own = {
                "data": data,
                "model": {"name": LINEAR, "weights": None},
                "features": {"tokens": None},
                "train": {"layers": "frozen"},
            }
            found.append(Layer("--embeddings", own))
        return found

    @property
    def words(self) -> list[str]:
        """The options as they are typed."""
        named = {
            "--backbone": self.backbone,
            "--accept-license": self.accept_license,
            "--embeddings": self.embeddings,
        }
        return [word for option, value in named.items() if value is not None for word in (option, str(value))]


def _gives(layer: Layer, section: str, key: str) -> bool:
    given = layer.values.get(section)
    return isinstance(given, Mapping) and key in given


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where settings come from, as the options of every command name them."""

    preset: str | None = None
    params: Path | None = None
    dataset: str | None = None
    ratio: str | None = None
    data_root: Path | None = None
    start: StartingPoint = StartingPoint()
    assignments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    notify: Notify = on_standard_error
    tuned: Path | None = TUNED  # folder of what `fkal tune` found; None leaves it out
    out: Path = Path("runs")  # where digests of image files are remembered
    verify: bool = False  # whether these are believed

    def file(self) -> ParamsFile:
        """The preset, or the params file, or else the preset of the dataset. Raises MissingSettings without any.

        ./params.yaml is taken for --dataset where it has a named dataset, or the settings of that one alone.
        """
        return self._file

    @cached_property
    def _file(self) -> ParamsFile:
        """Read once, so that what there is to say of it is said once."""
        if self.preset and self.params:
            raise ConfigError("--preset and --params both name the settings' file; give one of them")
        if self.preset:
            return params_file(preset(self.preset), f"preset {self.preset}")
        path = self.params or PARAMS
        if file_there(path, str(path)):
            file = params_file(path, str(path))
            if self.params or self.dataset is None or self._is_named_in(file):
                return file
            return self._preset_of_dataset(beside=file)
        if self.dataset and not self.params:
            return self._preset_of_dataset()
        raise MissingSettings(
            f"no {path} here; name a preset, say --preset digits, or write one: fkal grid --dataset digits > {path}"
        )

    def _preset_of_dataset(self, beside: ParamsFile | None = None) -> ParamsFile:
        """What `beside`, the params file here, does not replace. Of a file with named datasets nothing is said."""
        assert self.dataset is not None
        found = params_file(preset(self.dataset), f"preset {self.dataset}")
        if beside is not None and not beside.datasets:
            there = _only_dataset(beside)
            alone = "of no dataset" if there is None else f"of {shortened(there)} alone"
            self.notify(
                f"{beside.origin}: has the settings {alone}, so the preset {self.dataset} is used instead; "
                "leave --dataset out to use the file"
            )
        return found

    def _is_named_in(self, file: ParamsFile) -> bool:
        """Whether the file has one of the datasets of --dataset. Those that it lacks are refused later, by name."""
        known = file.datasets or [_only_dataset(file)]
        return any(name in known for name in self._datasets)

    @property
    def _datasets(self) -> list[str]:
        return [name.strip() for name in (self.dataset or "").split(",")]

    def datasets(self, file: ParamsFile) -> Sequence[str | None]:
        """Names in the file; None for one that holds a single experiment's settings."""
        if not file.datasets:
            self._refuse_other_dataset(file)
            return [None]
        if self.dataset:
            return self._datasets
        return file.grid.dataset if file.grid else list(file.datasets)

    def _refuse_other_dataset(self, file: ParamsFile) -> None:
        """Raises ConfigError for --dataset beside settings of one experiment, which have another."""
        if self.dataset is None:
            return
        there = merged([file.layer(None)]).data.name
        if self.dataset.strip() != there:
            raise ConfigError(
                f"--dataset {shortened(self.dataset)}: {file.origin} has the settings of {there!r} alone; leave "
                f"--dataset out, or name the preset of that dataset instead"
            )

    def settings(self, file: ParamsFile, dataset: str | None) -> list[Layer]:
        """The file's settings, and over them what was tuned and applied."""
        layer = file.layer(dataset)
        if self.tuned is None:
            return [layer]
        base = merged([layer])
        data = merged([layer, *self._over_file()]).data
        name = dataset_name(data)
        _say_of_shared_file(self.tuned, data, name, self.notify)
        return [
            layer,
            tuned_layer(base.tree, name, self.tuned, self.notify, lambda: image_source(data, self.digests())),
        ]

    def digests(self, *, looks_only: bool = False) -> FileDigests:
        """Of the files that images come from; with `looks_only` they are not remembered."""
        return FileDigests(below(self.out, DIGESTS), self.notify, verify=self.verify, looks_only=looks_only)

    def given(self) -> list[Layer]:
        """The environment and the options, which go over the file."""
        for name in unknown_variables(self.environment):
            self.notify(f"warning: {name} sets nothing; is it misspelt?")
        return self._over_file()

    def _over_file(self) -> list[Layer]:
        root = {} if self.data_root is None else {"data": {"root": str(self.data_root)}}
        assigned = from_assignments(self.assignments, once=True)
        return [
            from_environment(self.environment),
            Layer("--data-root", root),
            *self.start.layers(assigned),
            assigned,
        ]


def _only_dataset(file: ParamsFile) -> str | None:
    """The dataset of a file that holds one experiment's settings, if it names one."""
    data = file.settings.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) else None


def image_source(data: DataConfig, digests: FileDigests) -> str:
    """The digest of the files that the images come from; empty where they are not here, or not known."""
    found = source_digest(data, digests)
    return "" if found in (ABSENT, UNKNOWN) else found


def _say_of_shared_file(folder: Path, data: DataConfig, name: str, notify: Notify) -> None:
    """Earlier versions kept one tuned file for all own trees."""
    shared, own = tuned_path(folder, "folder"), tuned_path(folder, name)
    if data.name == "folder" and shared.exists() and not own.exists():
        notify(f"{shared}: not read, since it does not say which tree it is of; rename it to {own.name} to use it")


def refuse_contradictions(assigned: Layer, options: Sequence[Layer]) -> None:
    """Raises ConfigError where --set gives a key another value than an option gives it."""
    said = dict(flattened_leaves(assigned.values))
    for option in options:
        for key, value in flattened_leaves(option.values):
            if key in said and not same_value(said[key], value):
                is_whole = " " in option.origin or value is None
                origin = option.origin if is_whole else f"{option.origin} {value}"
                raise ConfigError(
                    f"{origin[:LONGEST_NAME]} and {SET} {key}={shortened(said[key])} contradict each other: "
                    f"{key} is {'null' if value is None else shortened(value)} by the option; give one of them"
                )


class Axis(NamedTuple):
    """What one dimension of a grid sets; an axis of options goes over the environment and --set, the file's under."""

    layers: Sequence[Layer] = (Layer("", {}),)
    over: bool = False


def experiments(sources: Sources, methods: str | None, seeds: str | None) -> list[Config]:
    """One configuration for each dataset, ratio, method and seed, seeds varying fastest.

    What no option names is that of the file's grid, and without a grid as the settings have it.
    """
    return experiments_of(sources.file(), sources, methods, seeds)


def experiments_of(file: ParamsFile, sources: Sources, methods: str | None, seeds: str | None) -> list[Config]:
    """The same of a params file that was read."""
    axes = [_ratios(file, sources.ratio), _methods(file, methods), _seeds(file, seeds)]
    several = prod(len(axis.layers) for axis in axes) * len(sources.datasets(file))
    if several > MOST_EXPERIMENTS:
        raise ConfigError(
            f"--dataset, --ratio, --method and --seeds name {several:,} experiments; give at most {MOST_EXPERIMENTS:,}"
        )
    configs = [config for dataset in sources.datasets(file) for config in _product(sources, file, dataset, axes)]
    if methods is None:
        refuse_one_method_twice(file.origin, configs)
    return configs


def refuse_one_method_twice(origin: str, configs: Iterable[Config]) -> None:
    """Raises ConfigError where two of a grid's experiments are one.

    Two names of one method would be two stages with the same work, and two rows of one method in each table.
    """
    known: set[str] = set()
    for config in configs:
        settings_text = config.model_dump_json()
        if settings_text in known:
            raise ConfigError(f"{origin}: grid.method: two names stand for {shown_name(config)}; give one of them")
        known.add(settings_text)


def settings(sources: Sources, method: str | None) -> Config:
    """The configuration of one dataset, without the grid of its file. Raises ConfigError where there are several."""
    file = replace(sources.file(), grid=None)
    datasets = sources.datasets(file)
    if len(datasets) > 1:
        raise ConfigError(f"{file.origin} has the datasets {', '.join(map(str, datasets))}; name one by --dataset")
    axes = [_ratios(file, sources.ratio), _methods(file, method)]
    for option, text, axis in zip(("--ratio", "--method"), (sources.ratio, method), axes, strict=True):
        if len(axis.layers) > 1:
            raise ConfigError(
                f"{option} {text}: names {len(axis.layers)}; a configuration has one, so give one of them"
            )
    (config,) = _product(sources, file, datasets[0], axes)
    return config


def _product(sources: Sources, file: ParamsFile, dataset: str | None, axes: Sequence[Axis]) -> Iterator[Config]:
    settings, given = sources.settings(file, dataset), sources.given()
    assigned = given[-1]
    refuse_contradictions(assigned, [*given[1:-1], *_named_dataset(sources, settings)])
    for chosen in product(*(axis.layers for axis in axes)):  # ratio, method, seed
        under = [layer for layer, axis in zip(chosen, axes, strict=True) if not axis.over]
        over = [layer for layer, axis in zip(chosen, axes, strict=True) if axis.over]
        refuse_contradictions(assigned, over)
        config = merged([*settings, *under, *given, *over])
        configured("data.name", entry_of, config.data.name)
        _refuse_without_folder(config)
        configured("model.name", known_model, config.model.name)
        _refuse_unread(chosen[1], config)
        refuse_unable_in_parts(config.acquisition)
        _refuse_long(config)
        yield config


def _named_dataset(sources: Sources, settings: Sequence[Layer]) -> list[Layer]:
    """What --dataset says of the data: the name that the settings of the dataset have."""
    if sources.dataset is None:
        return []
    return [Layer(f"--dataset {sources.dataset}", {"data": {"name": merged(settings).data.name}})]


def _refuse_without_folder(config: Config) -> None:
    try:
        require_folder(config.data)
    except ValueError as error:
        raise ConfigError(f"data.{error}") from error


def _refuse_long(config: Config) -> None:
    """Raises ConfigError for an experiment whose name is too long for a file and a stored run."""
    name = experiment_name(config)
    size = len(os.fsencode(name))
    if size > LONGEST_EXPERIMENT:
        raise ConfigError(
            f"the experiment's name {shortened(name)} has {size} bytes; at most {LONGEST_EXPERIMENT} fit: "
            "name fewer taps, or layers with shorter names"
        )


def _ratios(file: ParamsFile, option: str | None) -> Axis:
    if option is None:
        ratios = file.grid.ratio if file.grid else ()
        layers = [_ratio_layer(f"{file.origin}: grid.ratio", ratio) for ratio in ratios]
        return Axis(layers) if layers else Axis()
    return Axis([_ratio_layer("--ratio", yaml_value(ratio, "--ratio")) for ratio in option.split(",")], True)


def _ratio_layer(origin: str, ratio: object) -> Layer:
    return Layer(origin, {"bias": {"ratio": ratio}})


def _methods(file: ParamsFile, option: str | None) -> Axis:
    if option is None:
        names = file.grid.method if file.grid else ()
        layers = [replace(_method_layer(file, name), origin=f"{file.origin}: grid.method {name}") for name in names]
        return Axis(layers) if layers else Axis()
    return Axis([_method_layer(file, name.strip()) for name in option.split(",")], True)


def _method_layer(file: ParamsFile, name: str) -> Layer:
    return method_layer(file.short_name(name))


def _seeds(file: ParamsFile, option: str | None) -> Axis:
    if option is None and file.grid is None:
        return Axis()
    text = option if option is not None else (file.grid.seeds if file.grid else "")
    origin = "--seeds" if option is not None else f"{file.origin}: grid.seeds"
    return Axis([Layer(origin, {"seed": seed}) for seed in seed_numbers(text, origin)], over=option is not None)


UNREAD = {
    "combine": "has no two kernels to combine; leave {mark} out",
    "matching": "has no targets that share its budget by a rule; leave {mark} out",
    "whitening": "whitens no descriptors; leave {mark} out",
    "taps": "reads no layer; leave out what follows '@'",
    "ensemble": "asks one model alone; leave {mark} out",
    "samples": "draws no Monte Carlo samples; leave {mark} out",
}


MARKS = {"ensemble": ":e", "samples": ":k"}


def _refuse_unread(method: Layer, config: Config) -> None:
    """Raises ConfigError where a method's short name sets what that method does not read."""
    entry = configured("acquisition.name", acquisition, config.acquisition.name)
    matched = entry.under(config.acquisition.matching)
    who = config.acquisition.name if matched is entry else f"{config.acquisition.name}:{config.acquisition.matching}"
    reads = matched.reads(config.acquisition.pseudo_label)
    said = method.values.get("acquisition", {})
    for key, why in UNREAD.items():
        if key in said and key not in reads:
            mark = ":whiten" if key == "whitening" else MARKS.get(key, ":") + str(said[key])
            raise ConfigError(f"{method.origin}: {who} {why.format(mark=repr(mark))}")


def shown(config: Config, *, as_json: bool) -> str:
    """The resolved tree and its digest, as YAML that `--params` reads, or as JSON."""
    if as_json:
        return json_text({"digest": config.digest, "config": config.tree}) + "\n"
    return f"# digest: {config.digest}\n" + yaml.safe_dump(config.tree, sort_keys=False)
