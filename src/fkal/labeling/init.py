"""Makes a project: looks at its images once, lists them, and writes the params file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fkal.atomic_files import write_whole
from fkal.config.layers import Layer
from fkal.config.schema import configured
from fkal.data.errors import printable
from fkal.data.groups import SeemingGroups, seeming_groups
from fkal.data.registry import DATASETS
from fkal.data.settings import DataConfig
from fkal.errors import DISK_FULL, FORBIDDEN, ConfigError, MissingWeights, UserError, shortened
from fkal.experiment.names import dataset_name
from fkal.identifiers import dataset_name as checked_name
from fkal.labeling.answers import label_store
from fkal.labeling.estimate import Estimate, estimated
from fkal.labeling.feature_checking import features_checked
from fkal.labeling.label_store import INIT, LABELS, LabelRow
from fkal.labeling.listing import Listing
from fkal.labeling.params_text import FirstParams, first_text
from fkal.labeling.places import Looker, labels_of_places, portable, scan_places
from fkal.labeling.project import PARTS, STATE, LabelSettings, Part, Project, ProjectSettings
from fkal.labeling.project_dataset import median_side
from fkal.labeling.scan import PartSummary
from fkal.labeling.sources import refuse_nowhere
from fkal.locks import NamedLock
from fkal.models.pretrained import weights_are_here
from fkal.models.settings import PROGRAM, ModelConfig
from fkal.models.weights_files import is_file
from fkal.notify import Display, Notify
from fkal.paths import at_home

FEW_VALIDATION_IMAGES = 10
"""A class with fewer is said to have too few: selection goes by the images of it that the model gets wrong."""
SMALLEST_BUDGET = 20
FEWEST_LABELS = 2
"""What a network with batch normalisation learns from, of however small a pool."""
LABELS_PER_CLASS = 10
LARGEST_SHARE = 20
"""A round asks for at most one in so many images of the pool."""
LARGEST_SIDE = 64
"""Pixels per side that are suggested for a network that learns from scratch on a CPU."""
USUAL_MODEL = "resnet10"
DEFAULT_WEIGHTS = "DEFAULT"
"""Of a backbone: those that its publisher suggests."""
WORKERS = min(8, os.cpu_count() or 1)
DVC_YAML = """\
# `dvc repro` trains again where labels, images or settings changed. Selecting and labeling are commands of fkal.
stages:
  train:
    cmd: fkal train
    deps: [labels.csv, pool.parquet, validation.parquet, {test}classes.txt]
    params:
      - params.yaml:  # all of it: fkal train knows which settings matter
"""


@dataclass(frozen=True)
class InitOptions:
    """What `fkal init` is asked for. Places are as typed."""

    pools: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    labeled: tuple[str, ...] = ()
    backbone: str | None = None
    weights: str = DEFAULT_WEIGHTS
    model_is_named: bool = False
    """Whether backbone and weights were asked for by name, and are no suggestion."""
    groups: str | None = None
    name: str | None = None
    drop_leaks: bool = False
    dvc: bool = False


@dataclass(frozen=True)
class InitSummary:
    """What was found and what was made."""

    folder: Path
    was_there: bool
    """Whether it had its params file already, which is kept as it is."""
    parts: tuple[PartSummary, ...]
    classes: tuple[str, ...]
    too_few: Mapping[str, int]
    """Classes with too few validation images."""
    groups: int
    shared_groups: int
    """Groups that have images in the pool and in validation or test."""
    seeming_groups: SeemingGroups | None
    """What the names of the pool's files seem to say where no groups are known."""
    labeled: int
    """Labels that came with `--labeled` and are new."""
    budget: int
    budget_rule: str
    estimate: Estimate | None
    feature_check: str | None
    """One line on a frozen backbone."""


def init(folder: Path, options: InitOptions, display: Display) -> InitSummary:
    """Makes or completes the project in a folder; the same call again finds what is new in the same places.

    Raises ConfigError for options that contradict the params file that is there, Leak for images in two parts.
    """
    _refuse_unusable(options)
    options = _with_own_files(options)
    state = _made(folder / STATE)
    if not (state / ".gitignore").exists():
        write_whole(state / ".gitignore", b"*\n!.gitignore\n")
    with NamedLock(state / "lock", waiting=display.notify):
        with _without_leftovers(folder):
            project = _project(folder, options)
            summary = _filled(project, options, display)
        if options.dvc:
            _with_dvc(folder, display.notify)
    return summary


def _refuse_unusable(options: InitOptions) -> None:
    """Before anything is written. Raises MissingData for places where nothing is, ConfigError for odd groups."""
    for place in (*options.pools, *options.validation, *options.test, *options.labeled):
        refuse_nowhere(place)
    configured("--groups", lambda groups: DataConfig(name="folder", groups=groups), options.groups)


def _made(state: Path) -> Path:
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (*DISK_FULL, *FORBIDDEN):
            raise
        where = printable(state.parent)
        raise ConfigError(f"{where}: no folder can be made there ({error.strerror}); name another") from None
    return state


@contextmanager
def _without_leftovers(folder: Path) -> Iterator[None]:
    """A first init starts from nothing, and one that fails leaves no list of images and no params.

    Rows of other places would stay in such a list, and a model that did not work in the params. What was read of files
    is kept in `.fkal/state` for the next call.
    """
    params = folder / "params.yaml"
    had_params = params.exists()
    is_first = not (had_params or any((folder / name).exists() for name in ("rounds", LABELS)))
    if is_first:
        _remove_lists(folder)
    try:
        yield
    except BaseException:
        if is_first:
            _remove_lists(folder)
        if not had_params:
            params.unlink(missing_ok=True)
        raise


def _remove_lists(folder: Path) -> None:
    for name in (*(f"{part}.parquet" for part in PARTS), "quarantine.csv"):
        (folder / name).unlink(missing_ok=True)


def _with_own_files(options: InitOptions) -> InitOptions:
    """Files of a model by their whole path, as commands are given elsewhere later.

    Raises ConfigError for a model or weights that nobody knows, MissingWeights for a file that is not there,
    MissingPackage where the model's library is not installed.
    """
    if options.backbone is None:
        return options
    is_program, is_weights = options.backbone.endswith(PROGRAM), is_file(options.weights)
    model = ModelConfig(
        name=_whole(options.backbone) if is_program else options.backbone,
        weights=_whole(options.weights) if is_weights else options.weights,
    )
    are_here = configured("--backbone", lambda _: weights_are_here(model), options.backbone)
    if not are_here and (is_program or is_weights):
        raise MissingWeights(
            f"{model.name if is_program else model.weights}: there is no such file; put it there, or name another"
        )
    return replace(options, backbone=model.name, weights=model.weights or DEFAULT_WEIGHTS)


def _whole(file: str) -> str:
    return str(at_home(file).absolute())


def project_name(folder: Path, name: str | None) -> str:
    """The given name, or that of the folder as names are made; none of a dataset that fkal knows."""
    found = (
        checked_name(name, "--name") if name else dataset_name(DataConfig(name="folder", folder=str(folder.resolve())))
    )
    if found in DATASETS:
        raise ConfigError(f"--name {found}: is a dataset of fkal; give the project another name, say --name my-{found}")
    return found


def suggested_budget(pool: int, classes: int, groups: int) -> tuple[int, str]:
    """Images per round, and the rule."""
    units = groups or pool
    wanted = max(SMALLEST_BUDGET, LABELS_PER_CLASS * classes)
    budget = min(wanted, max(FEWEST_LABELS, units // LARGEST_SHARE))
    what = "groups" if groups else "images"
    return budget, (
        f"{LABELS_PER_CLASS} per class and at least {SMALLEST_BUDGET}, at most a {LARGEST_SHARE}th of {units:,} {what}"
    )


def _project(folder: Path, options: InitOptions) -> Project:
    """The project that is there, or one that has no params file yet."""
    places: dict[str, tuple[str, ...]] = {
        "pools": tuple(portable(folder, place) for place in (*options.pools, *options.labeled)),
        "validation": tuple(portable(folder, place) for place in options.validation),
        "test": tuple(portable(folder, place) for place in options.test),
    }
    if not (folder / "params.yaml").exists():
        settings = ProjectSettings(name=project_name(folder, options.name), **places)
        data = {} if options.groups is None else {"data": {"groups": options.groups}}
        return Project(folder, settings, LabelSettings(), Layer("fkal init", data))
    project = Project.open(folder)
    for key, wanted in places.items():
        listed = getattr(project.settings, key)
        new = [place for place in wanted if place not in listed]
        if new:
            command = {"pools": "fkal pool add", "validation": "fkal val add"}.get(key)
            way_out = f"add it: {command} {new[0]}" if command else f"list it under project.{key} yourself"
            raise ConfigError(f"{project.params_path}: the project is there, without {new[0]} in {key}; {way_out}")
    _refuse_another(project, "--groups", options.groups, "data.groups", project.groups)
    _refuse_another(project, "--name", options.name, "project.name", project.name)
    if options.model_is_named:
        _refuse_another_model(project, options)
    return project


def _refuse_another(project: Project, option: str, given: str | None, key: str, known: str | None) -> None:
    """Raises ConfigError for an option that says something else than the params file that is there."""
    if given is not None and given != known:
        raise ConfigError(
            f"{option} {shortened(given)}: {project.params_path} is there, with {key} "
            f"{'null' if known is None else shortened(known)}; to change it, set it in this file, and leave {option} "
            "out"
        )


def _refuse_another_model(project: Project, options: InitOptions) -> None:
    """Raises ConfigError where the params have another model than the one that was named, or other weights."""
    model = project.config().model
    wanted = (options.backbone, options.weights) if options.backbone else (model.name, None)
    if (model.name, model.weights) != wanted:
        raise ConfigError(
            f"{project.params_path}: the project is there, with model.name {model.name} and model.weights "
            f"{model.weights}; to change them, set them in this file, or leave --backbone and --weights out"
        )


def _filled(project: Project, options: InitOptions, display: Display) -> InitSummary:
    labeled = tuple(portable(project.folder, place) for place in options.labeled)
    with Looker(project.facts_path, display, workers=WORKERS, drop_leaks=options.drop_leaks) as looker:
        parts = [_scanned(project, part, options, labeled, looker) for part in ("test", "validation", "pool")]
        given = list(labels_of_places(project.reread(), labeled, looker.facts))
    fresh = project.reread()
    summaries = tuple(part for part in reversed(parts) if part is not None)
    names = {name for part in summaries for name in part.per_class} | {row.label for row in given}
    project.add_classes(sorted(names))
    n_labels = _append_new(project, given)
    groups = {part: {group for group in fresh.listing(part).groups if group is not None} for part in PARTS}
    budget, rule = suggested_budget(len(fresh.pool), len(project.classes), len(groups["pool"]))
    was_there = project.params_path.exists()
    if not was_there:
        _write_params(project, options, budget, rule, fresh)
    written = Project.open(project.folder)
    config = written.config()
    return InitSummary(
        folder=project.folder,
        was_there=was_there,
        parts=summaries,
        classes=project.classes,
        too_few=_too_few(project.classes, fresh.validation),
        groups=len(groups["pool"]),
        shared_groups=len(groups["pool"] & (groups["validation"] | groups["test"])),
        seeming_groups=None if groups["pool"] else seeming_groups(fresh.pool.paths, len(project.classes)),
        labeled=n_labels,
        budget=budget,
        budget_rule=rule,
        estimate=estimated(config, written, fresh.pool) if weights_are_here(config.model) else None,
        feature_check=features_checked(written, config, display),
    )


def _scanned(
    project: Project, part: Part, options: InitOptions, labeled: Sequence[str], looker: Looker
) -> PartSummary | None:
    """None for a part that has no places."""
    typed: dict[Part, tuple[str, ...]] = {
        "pool": (*options.pools, *options.labeled),
        "validation": options.validation,
        "test": options.test,
    }
    listed = project.settings.sources(part)
    roots = [listed.index(portable(project.folder, place)) for place in typed[part]]
    return scan_places(project.reread(), part, roots, looker, labeled=labeled) if roots else None


def _append_new(project: Project, given: Sequence[LabelRow]) -> int:
    """Appends the labels that labels.csv does not have yet; the same call again appends none."""
    store = label_store(project.reread())
    known = {(row.digest, row.label) for row in store.rows() if row.source == INIT}
    new = [row for row in given if (row.digest, row.label) not in known]
    store.append(new)
    return len(new)


def _write_params(project: Project, options: InitOptions, budget: int, rule: str, fresh: Project) -> None:
    """`fresh` has the lists of images as they are now."""
    side = None if options.backbone else min(LARGEST_SIDE, median_side(fresh.pool))
    text = first_text(
        FirstParams(
            name=project.name,
            pools=project.settings.pools,
            validation=project.settings.validation,
            test=project.settings.test,
            model=options.backbone or USUAL_MODEL,
            weights=None if options.backbone is None else options.weights,
            image_size=side,
            groups=options.groups,
            validation_per_class=len(fresh.validation) / max(1, len(project.classes)),
            budget=budget,
            budget_rule=rule,
        )
    )
    write_whole(project.params_path, text.encode())


def _too_few(classes: Sequence[str], validation: Listing) -> dict[str, int]:
    """Classes with fewer validation images than selection needs, if there are validation images at all."""
    counts = Counter(validation.labels)
    few = {name: counts[name] for name in classes if counts[name] < FEW_VALIDATION_IMAGES}
    return few if len(validation) else {}


def _with_dvc(folder: Path, say: Notify) -> None:
    """A stage for DVC, in a repository of its own where the folder is in none."""
    if (folder / "dvc.yaml").exists():
        if "params.yaml:" not in (folder / "dvc.yaml").read_text(encoding="utf-8", errors="replace"):
            say(
                f"{folder / 'dvc.yaml'}: is kept; where its stage lists some params alone, write `- params.yaml:` "
                "instead, so that features and threads count"
            )
    else:
        test = "test.parquet, " if (folder / "test.parquet").exists() else ""
        write_whole(folder / "dvc.yaml", DVC_YAML.format(test=test).encode())
    if any((place / ".dvc").is_dir() for place in (folder.resolve(), *folder.resolve().parents)):
        return
    has_git = any((place / ".git").exists() for place in (folder.resolve(), *folder.resolve().parents))
    options = ["--subdir"] if has_git else ["--no-scm"]
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--quiet", *options], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(
            f"dvc init failed in {folder}: {done.stderr.strip()[:300]}; leave --dvc out, or run it yourself"
        )
