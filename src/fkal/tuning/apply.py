"""`fkal tune --apply`: the result that waits is used from now on. Imports neither torch nor Optuna: nothing is run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fkal import identifiers
from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes, file_there, yaml_of, yaml_reason
from fkal.config.layers import Layer, merged
from fkal.config.tuned import read_tuned
from fkal.errors import ConfigError, MissingSettings
from fkal.folders import below
from fkal.paths import TUNED

WAITS = re.compile(r"^(study:\n(?:[ \t]+.*\n)*?[ \t]+applied:[ \t]*)false\b", re.MULTILINE)
IN_NAMES: Mapping[str, str] = {
    "acquisition.pseudo_label": "pfk_LABEL",
    "acquisition.combine": "NAME:sum",
    "acquisition.matching": "NAME:coverage",
    "acquisition.whitening": "NAME:whiten",
    "acquisition.samples": "NAME:k32",
    "acquisition.taps": "NAME@TAP",
}
"""Keys that a method's name may set, over what was tuned, and how."""


class Applied(NamedTuple):
    """The file, its values by dotted key, whether they are used from now on, and whether that is new."""

    path: Path
    values: dict[str, Any]
    is_applied: bool
    is_new: bool


def apply(folder: Path, dataset: str | None, preset: str | None, params: Path | None, *, dry_run: bool) -> Applied:
    """Set `study.applied` in the file and nothing else, so that edits and comments stay.

    A file made by hand has no study, and is used anyway. Raises ConfigError for a file that experiments would refuse.
    """
    path = _waiting(folder, dataset, preset, params)
    refuse_unread(path)
    try:
        text = file_bytes(path, str(path)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unusable(path, f"not UTF-8 ({error})") from None
    values = _read(path, text)
    study = values.pop("study", None)
    was_applied = not isinstance(study, dict) or study.get("applied") is True
    if not was_applied:
        text = WAITS.sub(r"\1true", text, count=1)
        if _read(path, text)["study"].get("applied") is not True:
            raise _unusable(path, "study.applied is not where a study writes it; set it to true by hand")
    read_tuned(path)
    merged([Layer(str(path), values)])
    if not was_applied and not dry_run:
        write_whole(path, text.encode())
    flat = {f"{section}.{name}": value for section, names in values.items() for name, value in names.items()}
    return Applied(path, flat, is_applied=was_applied or not dry_run, is_new=not was_applied)


def refuse_unread(path: Path) -> None:
    """Raises ConfigError for a tuned file in a folder that no experiment reads."""
    if path.parent.resolve() != TUNED.resolve():
        raise _unusable(
            path, f"experiments read {TUNED / path.name} alone; copy it there and apply that", rewrite=False
        )


def overruled(key: str) -> str:
    """When a tuned value has no effect although it is applied; empty for a key that no method's name sets."""
    return f"not where a method's name says it ({IN_NAMES[key]})" if key in IN_NAMES else ""


def _waiting(folder: Path, dataset: str | None, preset: str | None, params: Path | None) -> Path:
    """By the option, where that is the dataset's name; else by the settings. Raises MissingSettings without a file."""
    named = dataset or preset
    if named is not None:
        path = below(folder, f"{identifiers.dataset_name(named, '--dataset')}.yaml")
        if file_there(path, str(path)):
            return path
    from fkal.experiment.names import dataset_name
    from fkal.runner import expand as configuring

    given = configuring.Sources(preset=preset, params=params, dataset=dataset, tuned=None)
    name = dataset_name(configuring.settings(given, None).data)
    path = below(folder, f"{name}.yaml")
    if not file_there(path, str(path)):
        raise MissingSettings(f"{path}: no result waits there; search one: fkal tune --dataset {name}")
    return path


def _read(path: Path, text: str) -> dict[str, Any]:
    try:
        values = yaml_of(text)
    except yaml.YAMLError as error:
        raise _unusable(path, f"not valid YAML: {yaml_reason(error)}") from None
    if not isinstance(values, dict) or not all(isinstance(section, dict) for section in values.values()):
        raise _unusable(path, "no sections with values")
    return values


def _unusable(path: Path, why: str, *, rewrite: bool = True) -> Exception:
    return ConfigError(f"{path}: {why}" + ("; or let `fkal tune --force` write the file again" if rewrite else ""))
