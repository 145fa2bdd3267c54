"""The folder of a project: its params file, its lists of images, its classes, its lock. Imports no torch.

my-project/  params.yaml  pool.parquet  validation.parquet  test.parquet  quarantine.csv  classes.txt  labels.csv
             rounds/01/{to_label.csv, request.json, contact.html}  .fkal/{embeddings, weights, state, lock}
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fkal.acquisition.registry import acquisition
from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes
from fkal.config.layers import Layer, from_assignments, from_environment, from_file, merged
from fkal.config.method_checks import refuse_unable_in_parts
from fkal.config.method_spec import method_layer
from fkal.config.rules import rule_of
from fkal.config.schema import LONGEST_PATH, PROTOCOL, Config, configured
from fkal.data.addresses import is_url, joined
from fkal.errors import ConfigError, MissingSettings, UserError, did_you_mean, shortened
from fkal.escaping import one_line
from fkal.folders import below, in_place
from fkal.identifiers import dataset_name
from fkal.labeling.label_store import STATUSES, LabelStore
from fkal.labeling.listing import ListedImage, Listing, read_listing
from fkal.locks import NamedLock
from fkal.notify import PLAIN, Display, Notify
from fkal.paths import at_home

if TYPE_CHECKING:
    from fkal.labeling.project_dataset import ProjectDataset

STATE = ".fkal"
"""The folder by which a project is known."""
OWN_FILES = frozenset(
    (
        *("params.yaml", "classes.txt", "labels.csv", "quarantine.csv", "dvc.yaml", "mlflow.db", "mlartifacts"),
        *("pool.parquet", "validation.parquet", "test.parquet", "rounds", STATE),
    )
)
"""Names in a project's folder that no result is written to."""
Part = Literal["pool", "validation", "test"]
PARTS: tuple[Part, ...] = ("pool", "validation", "test")
SECTIONS = ("project", "labels")
"""Sections of a project's params file beside the settings of an experiment."""
MOST_SOURCES = 1000
LONGEST_CLASS = 200
"""Characters of the name of a class."""
MOST_CLASSES_BYTES = 50_000_000
NO_CLASSES = frozenset((*STATUSES, "_unsorted", "_skipped", "_none_of_these"))
"""Statuses of labels, and the folders that stand for them: where labels come in, a class could not be told from one."""
DEFAULTS: Mapping[str, Any] = {
    "bias": {"kind": "none", "ratio": 1},
    "acquisition": {"name": "pfk", "pseudo_label": "joint_shift_grid", "matching": "coverage"},
}
"""Settings of a project where its params file has none: a pool of one's own is biased as it is."""


class NoProject(UserError, FileNotFoundError):
    """There is no project in a folder or above it."""


class ProjectSettings(BaseModel):
    """Section `project`: what the project is called, and where its images are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    """The name of the project, of its MLflow experiment and of its dataset."""
    pools: tuple[str, ...] = Field(min_length=1, max_length=MOST_SOURCES)
    """Unlabeled images: folder trees, or manifests (CSV, Parquet, JSON lines). Add with `fkal pool add`."""
    validation: tuple[str, ...] = Field(default=(), max_length=MOST_SOURCES)
    """Places that validation images were taken from. Add with `fkal val add`."""
    test: tuple[str, ...] = Field(default=(), max_length=MOST_SOURCES)
    """Places that test images were taken from."""

    def sources(self, part: Part) -> tuple[str, ...]:
        """The places of a part, in the order that `root` counts."""
        places: dict[Part, tuple[str, ...]] = {"pool": self.pools, "validation": self.validation, "test": self.test}
        return places[part]


class LabelSettings(BaseModel):
    """Section `labels`: what counts where several people labeled one image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolve: Literal["error", "latest", "majority"] = "error"
    """What two different labels of one image are: an error, or the latest or the majority counts."""


@dataclass(frozen=True, eq=False)
class Project:
    """A folder with images to label. Commands that write hold `lock` meanwhile.

    Example:
        >>> Project.open(Path("my-project")).settings.name  # doctest: +SKIP
        'my-project'
    """

    folder: Path
    settings: ProjectSettings
    label_settings: LabelSettings
    layer: Layer
    """The settings of the experiment that the params file holds."""

    @classmethod
    def open(cls, folder: Path) -> Project:
        """The project in this folder. Raises NoProject, or ConfigError for a params file that is wrong."""
        if not (folder / STATE).is_dir():
            raise NoProject(f"{folder}: is no project (it has no {STATE}/); make one: fkal init {folder} --pool IMAGES")
        path = folder / "params.yaml"
        if not path.exists():
            raise MissingSettings(f"{path}: missing; take it back from git, or run fkal init {folder} --pool IMAGES")
        layer = from_file(path, str(path))
        values = dict(layer.values)
        sections = {name: values.pop(name, {}) for name in SECTIONS}
        _refuse_unknown(values, path)
        return cls(
            folder=folder,
            settings=_section(ProjectSettings, sections["project"], f"{path}: project"),
            label_settings=_section(LabelSettings, sections["labels"], f"{path}: labels"),
            layer=Layer(str(path), values, layer.beside),
        )._checked()

    @classmethod
    def find(cls, start: Path) -> Project:
        """The project of this folder or of the nearest folder above it. Raises NoProject."""
        here = start.absolute()
        for folder in (here, *here.parents):
            if (folder / STATE).is_dir() and (folder / "params.yaml").exists():
                return cls.open(folder)
        raise NoProject(
            f"{start}: neither this folder nor one above it is a project; go to one, name it with --project DIR, "
            "or make one: fkal init DIR --pool IMAGES"
        )

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def groups(self) -> str | None:
        """The setting `data.groups` of the params file."""
        data = self.layer.values.get("data")
        groups = data.get("groups") if isinstance(data, Mapping) else None
        return groups if isinstance(groups, str) else None

    @property
    def params_path(self) -> Path:
        return self.folder / "params.yaml"

    @property
    def quarantine_path(self) -> Path:
        return in_place(self.folder, "quarantine.csv")

    @property
    def classes_path(self) -> Path:
        return in_place(self.folder, "classes.txt")

    @property
    def labels_path(self) -> Path:
        return in_place(self.folder, "labels.csv")

    @property
    def rounds_path(self) -> Path:
        return below(self.folder, "rounds")

    @property
    def embeddings_path(self) -> Path:
        return self.folder / STATE / "embeddings"

    @property
    def weights_path(self) -> Path:
        return self.folder / STATE / "weights"

    @property
    def state_path(self) -> Path:
        return below(self.folder, f"{STATE}/state")

    @property
    def facts_path(self) -> Path:
        """What is known of files, so that they are not read again."""
        return self.state_path / "files.sqlite"

    def refuse_output(self, out: Path, *suffixes: str) -> None:
        """Raises ConfigError for a file that no result may be written to.

        These are the project's own, what is no file, and names that end in none of the suffixes: such a name may be
        that of an image.
        """
        if out.is_dir() or (out.exists() and not out.is_file()):
            raise ConfigError(f"--out {out}: is no regular file; name a file")
        if not out.parent.is_dir():
            raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it")
        there, home = out.resolve(), self.folder.resolve()
        if there.is_relative_to(home):
            first = there.relative_to(home).parts[0]
            if first in OWN_FILES:
                raise ConfigError(f"--out {out}: {first} is the project's own; name another file")
        if out.suffix.lower() not in suffixes:
            wanted = " or ".join(suffixes)
            raise ConfigError(
                f"--out {out}: a name that ends in {wanted} is wanted; say {out.with_suffix(suffixes[0])}"
            )

    def listing_path(self, part: Part) -> Path:
        """`pool.parquet`, `validation.parquet`, `test.parquet`."""
        return self.folder / f"{part}.parquet"

    def lock(self, say: Notify) -> NamedLock:
        """One process at a time works on a project; another waits, and says for whom."""
        return NamedLock(self.folder / STATE / "lock", waiting=say)

    def config(
        self,
        assignments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] = os.environ,
        once: bool = False,
        method: str | None = None,
    ) -> Config:
        """The settings: the params file, the environment, `--set`, then a method as `--method` names it.

        `data.name` is the project's name.
        """
        chosen = () if method is None else (method_layer(method),)
        layers = (
            Layer("defaults of a project", DEFAULTS),
            self.layer,
            from_environment(environment),
            from_assignments(assignments, once=once),
            *chosen,
            Layer("project.name", {"data": {"name": self.name}}),
        )
        config = merged(layers)
        configured("acquisition.name", acquisition, config.acquisition.name)
        refuse_unable_in_parts(config.acquisition)
        return config

    @cached_property
    def pool(self) -> Listing:
        """All images that ever were in the pool."""
        return self.listing("pool")

    @cached_property
    def validation(self) -> Listing:
        return self.listing("validation")

    @cached_property
    def test(self) -> Listing:
        return self.listing("test")

    def listing(self, part: Part) -> Listing:
        """The list of a part. Raises MissingSettings where it was made and is not there."""
        path = self.listing_path(part)
        if self.settings.sources(part) and self.params_path.exists() and not path.exists():
            raise MissingSettings(f"{path}: missing; take it back from git, or run fkal init again as at first")
        return self.listing_so_far(part)

    def listing_so_far(self, part: Part) -> Listing:
        """The list of a part while it is being made: empty where there is none yet."""
        return read_listing(self.listing_path(part), labeled=part != "pool")

    def reread(self) -> Project:
        """The same project, whose lists are read again."""
        return replace(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names in classes.txt; the place of a name is the index of its class.

        Raises ConfigError for a file that cannot be read, and for the name of a status that is not in use yet.
        """
        names = read_classes(self.classes_path)
        if ambiguous := ambiguous_classes(names):
            self._refuse_unused(names, ambiguous)
        return names

    def _refuse_unused(self, names: Sequence[str], ambiguous: Sequence[str]) -> None:
        """Earlier versions took such names: where images have them, the project goes on."""
        from fkal.labeling.answers import digest_finder  # needs a project itself

        used = {*self.listing_so_far("validation").labels, *self.listing_so_far("test").labels}
        rows = LabelStore(self.folder, digest_finder(self.listing_so_far("pool"))).rows()
        used |= {row.label for row in rows if row.status == "labeled"}
        for name in ambiguous:
            if name not in used:
                line = names.index(name) + 1
                raise ConfigError(f"{self.classes_path}: line {line}: {shortened(name)}: {new_class_problem(name)}")

    def add_classes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Appends names that are not in classes.txt yet, in their order; returns those that were new."""
        known = self.classes
        new = tuple(name for name in dict.fromkeys(names) if name not in known)
        refuse_new_classes(new, "class")
        if new:
            write_classes(self.classes_path, (*known, *new))
        return new

    def source(self, part: Part, root: int) -> str:
        """Where a row's `path` starts: a folder, that of a manifest, or the beginning of a URL."""
        sources = self.settings.sources(part)
        if not 0 <= root < len(sources):
            raise ConfigError(
                f"{self.params_path}: project: {part} has {len(sources)} places, and an image is listed in place "
                f"{root}; put the place back that was removed"
            )
        return base_of(self.folder, sources[root])

    def location(self, part: Part, image: ListedImage) -> str:
        """The path or URL by which an image can be opened."""
        return joined(self.source(part, image.root), image.path)

    def dataset(
        self,
        display: Display = PLAIN,
        *,
        config: Config | None = None,
        labels: Mapping[str, str] | None = None,
        verify: bool = False,
    ) -> ProjectDataset:
        """Pool and validation images as one training part, and the test images; see `ProjectDataset`.

        `labels` has the class of labeled pool images by digest. Looks whether each file is still what it was, and
        writes what it finds to the lists and quarantine.csv: hold the lock. Imports torch.
        """
        from fkal.labeling.project_dataset import load_project

        return load_project(self, config or self.config(), display, labels=labels, verify=verify)

    def _checked(self) -> Project:
        try:
            dataset_name(self.name, f"{self.params_path}: project.name")
        except UserError as error:
            raise ConfigError(str(error)) from None
        return self


def base_of(folder: Path, source: str) -> str:
    """Where the paths of a source start: the folder itself, or the folder of a manifest, seen from the project."""
    if is_url(source):
        return source if source.endswith("/") else source.rpartition("/")[0]
    place = folder / at_home(source)
    return str(place.parent if place.is_file() else place)


def read_classes(path: Path) -> tuple[str, ...]:
    """One name a line. Raises ConfigError for a name that occurs twice; an absent file has none."""
    if not path.exists():
        return ()
    try:
        text = file_bytes(path, str(path), most=MOST_CLASSES_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    times = Counter(names)
    for number, name in enumerate(names, start=1):
        problem = class_problem(name) or ("occurs twice; each class has one line" if times[name] > 1 else None)
        if problem:
            raise ConfigError(f"{path}: line {number}: {shortened(name)}: {problem}")
    return names


def write_classes(path: Path, names: Sequence[str]) -> None:
    """Whole or not at all. Raises ConfigError for what is no name of a class."""
    for name in names:
        if problem := class_problem(name):
            raise ConfigError(f"class {shortened(name)}: {problem}")
    write_whole(path, "".join(f"{name}\n" for name in names).encode())


def class_problem(name: str) -> str | None:
    """Why this is no name of a class; None for a good one."""
    if not name or name != name.strip():
        return "a class needs a name without spaces around it; give one"
    if one_line(name) != name or len(name.splitlines()) > 1:
        return "a class has a name of one line without control characters; rename it"
    if len(name) > LONGEST_CLASS:
        return f"a class has a name of at most {LONGEST_CLASS} characters; shorten it"
    return None


def new_class_problem(name: str) -> str | None:
    """As `class_problem`, of a name that is no class yet: those of statuses would be taken for them."""
    if name in NO_CLASSES:
        return "is the name of a status of labels, so no class can have it; name the class otherwise"
    return class_problem(name)


def refuse_new_classes(names: Iterable[str], where: str) -> None:
    """Raises ConfigError for the first that no new class can have."""
    for name in names:
        if problem := new_class_problem(name):
            raise ConfigError(f"{where} {shortened(name)}: {problem}")


def ambiguous_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Those that are names of statuses, as classes of earlier versions may be."""
    return tuple(name for name in names if name in NO_CLASSES)


def _section(model: type[Any], values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: {shortened(values)}: give keys with values")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(each, model, where) for each in error.errors())) from None


def _problem(error: Any, model: type[BaseModel], where: str) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return f"{where}.{key}: unknown key; {did_you_mean(str(error['loc'][-1]), known)}known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where}.{key}: not set; give it, or run fkal init again"
    if error["type"] == "tuple_type":
        return f"{where}.{key} = {shortened(error['input'])}: give a list, say [{str(error['input'])[:LONGEST_PATH]}]"
    return f"{where}.{key} = {shortened(error['input'])}: {rule_of(error)}"


def _refuse_unknown(values: Mapping[str, Any], path: Path) -> None:
    known = [*SECTIONS, *Config.model_fields]
    for key in values:
        if key not in {*Config.model_fields, PROTOCOL}:
            raise ConfigError(
                f"{path}: {shortened(key)}: unknown section; {did_you_mean(str(key), known)}known: {', '.join(known)}"
            )
    data = values.get("data")
    if isinstance(data, Mapping) and "name" in data:
        raise ConfigError(f"{path}: data.name: project.name names the images of a project; remove data.name")
