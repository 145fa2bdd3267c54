"""Tuned settings: `params/tuned/<dataset>.yaml`, which a study writes and experiments read once it is applied.

The file holds the values of the keys that were searched, and under `study` where they come from. Its
digest tells whether someone has edited it since; `over` tells which values the study stood against.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fkal.atomic_files import write_whole
from fkal.config.documents import file_there
from fkal.config.layers import Layer, from_file
from fkal.config.rules import rule_of
from fkal.config.schema import Config, ConfigError, digest_of
from fkal.errors import READABLE, did_you_mean, shortened
from fkal.folders import below
from fkal.identifiers import dataset_name

STUDY = "study"
HEADER = """\
# Written by `fkal tune`. Experiments read it where study.applied is true (`fkal tune --apply`).
# A value that you set in the params file since counts for more than the one here.
"""


class Study(BaseModel):
    """Where tuned values come from. `value` and `default` are what the objective was with them and without.

    `source` is the digest of the files that the images came from; earlier versions did not write it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    digest: str = Field(pattern=r"^[0-9a-f]{32}$")
    objective: str
    value: float = Field(allow_inf_nan=False)
    default: float | None = Field(allow_inf_nan=False)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    trials: int = Field(ge=0)
    holdout: int = Field(ge=0)
    applied: bool
    over: dict[str, Any]
    source: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")


class Tuned(BaseModel):
    """A tuned file: dotted keys with their values, and the study; None for a file made by hand."""

    model_config = ConfigDict(frozen=True)

    values: dict[str, Any]
    study: Study | None

    @property
    def is_edited(self) -> bool:
        """Whether its content is no longer what the study wrote."""
        return self.study is None or self.study.digest != content_digest(self.values, self.study.model_dump())


class HandMade(ConfigError):
    """The file has values that no study wrote."""


def tuned_path(folder: Path, dataset: str) -> Path:
    """Raises UnsafeName for what can name no dataset."""
    return below(folder, f"{dataset_name(dataset, 'dataset')}.yaml")


def content_digest(values: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Of all that a study wrote; to apply it changes nothing."""
    left_out = ("digest", "applied", *(("source",) if study.get("source") is None else ()))
    return digest_of([dict(values), {k: v for k, v in study.items() if k not in left_out}])


def tuned_layer(
    base_values: Mapping[str, Any],
    dataset: str,
    folder: Path,
    say: Callable[[str], None],
    source: Callable[[], str] = lambda: "",
) -> Layer:
    """The applied values for a dataset, over `base_values`, the params file's; empty where none are applied.

    `source` gives the digest of the files that the images come from, empty where it is not known. Values that a study
    found on other images are not applied, which is said.

    A key whose value there is no longer the one that the study stood against was set by hand since,
    and is left as it is; this is said. Raises ConfigError for a file that is not one.
    """
    path = tuned_path(folder, dataset)
    tuned = read_tuned(path) if file_there(path, str(path)) else None
    if tuned is None or (tuned.study and not tuned.study.applied):
        return Layer(str(path), {})
    if tuned.study is None:
        return Layer(str(path), nested(tuned.values))
    if tuned.study.source is not None and (here := source()) and here != tuned.study.source:
        there = tuned.study.source[:8]
        say(
            f"{path}: not applied, since its study had other images (source {there}, here {here[:8]}); "
            f"search again: fkal tune --dataset {shlex.quote(dataset)}, or remove study.source there to use it anyway"
        )
        return Layer(str(path), {})
    if tuned.is_edited:
        say(f"{path}: edited since its study; taken as it is")
    kept = {}
    for key, value in tuned.values.items():
        now, then = value_at(base_values, key), tuned.study.over[key]
        if _plain(now) == _plain(then):
            kept[key] = value
        else:
            say(f"{path}: {key} = {value} is left out, since {now} was set by hand after the study (which had {then})")
    return Layer(str(path), nested(kept))


def read_tuned(path: Path) -> Tuned:
    """Raises ConfigError, with the file and a way out, for anything that a study would not write."""
    entries = dict(from_file(path, str(path)).values)
    header = entries.pop(STUDY, None)
    values = _known(path, entries)
    if header is None:
        return Tuned(values=values, study=None)
    try:
        study = Study.model_validate(header)
    except ValidationError as error:
        problems = "\n".join(_problem(path, each) for each in error.errors())
        raise ConfigError(problems) from None
    if set(study.over) != set(values):
        odd = sorted(set(study.over) ^ set(values))
        raise ConfigError(f"{path}: study.over and the values differ in {', '.join(odd)}; name the same keys in both")
    return Tuned(values=values, study=study)


def write_tuned(path: Path, values: Mapping[str, Any], study: Mapping[str, Any]) -> None:
    """`study` has all fields of `Study` but the digest. Whole or not at all."""
    digest = content_digest(values, study)
    entries = {STUDY: {"name": study["name"], "digest": digest, **study}, **nested(values)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (HEADER + yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)).encode())


def refuse_hand_made(path: Path) -> None:
    """Raises HandMade where the file there was written or changed by hand: no study may replace it unasked."""
    if not file_there(path, str(path)):
        return
    tuned = read_tuned(path)
    if tuned.is_edited:
        what = "made by hand" if tuned.study is None else "edited since its study"
        raise HandMade(f"{path}: {what}; move it away, or replace it with --force")


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a tree."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return tree


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """What the tree says of a dotted key, or else the default."""
    section, name = key.split(".")
    said = tree.get(section)
    if isinstance(said, Mapping) and name in said:
        return said[name]
    return Config().tree[section][name]


def _known(path: Path, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The values by dotted key, of keys that a configuration has."""
    defaults, values = Config().tree, {}
    for section, given in entries.items():
        if not isinstance(defaults.get(section), dict) or not isinstance(given, dict):
            sections = [name for name, value in defaults.items() if isinstance(value, dict)]
            raise ConfigError(
                f"{path}: {shortened(section)} is no section with values; {did_you_mean(str(section), sections)}"
                f"known: {', '.join(sections)}"
            )
        for name, value in given.items():
            if name not in defaults[section]:
                known = did_you_mean(str(name), defaults[section])
                key = f"{section}.{str(name)[:READABLE]}"
                raise ConfigError(f"{path}: {key}: unknown key; {known}remove it or spell it as it is known")
            values[f"{section}.{name}"] = value
    return values


def _problem(path: Path, error: Any) -> str:
    key = ".".join(str(part) for part in (STUDY, *error["loc"]))
    return (
        f"{path}: {key}: {rule_of(error)}; it is {shortened(error['input'])}; "
        "let `fkal tune --force` write the file again"
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
