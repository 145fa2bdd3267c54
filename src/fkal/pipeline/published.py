"""Where the pipeline's results are, and what their files are called. Imports no torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fkal.config.documents import json_of_file
from fkal.config.layers import Layer, merged
from fkal.config.machine import machine_layer
from fkal.config.schema import Config, ConfigError
from fkal.folders import below, own_folder, remove_folder
from fkal.identifiers import (
    GRID_NAME,
    ROUND,
    SEED_FOLDER,
    SHARD_FILE,
    SPLIT_FILE,
    WEIGHTS_FILE,
    checked_fingerprint,
    digest,
)
from fkal.results.class_names import checked_names
from fkal.results.round_facts import CHECKS

SPLITS, PRETRAINED, DESCRIPTORS, EXPERIMENTS = "splits", "pretrained", "descriptors", "experiments"
METRICS, CURVES, TIMINGS = "metrics", "curves", "timings"
ABOUT = "about.json"
FORMAT = "fkal-experiment-1"
MADE_WITH = "made_with"

FILES = {SPLITS: SPLIT_FILE, PRETRAINED: WEIGHTS_FILE, DESCRIPTORS: SHARD_FILE}
"""Names of the files that experiments share, relative to the folder that they are published in."""
_ABOUT = re.escape(ABOUT)
LAYOUTS = {
    SPLITS: rf"{_ABOUT}|{SPLIT_FILE}",
    PRETRAINED: rf"({GRID_NAME}/)?({_ABOUT}|{WEIGHTS_FILE})",
    DESCRIPTORS: rf"({GRID_NAME}/)?({_ABOUT}|{SHARD_FILE})",
    EXPERIMENTS: rf"{SEED_FOLDER}/({_ABOUT}|{ROUND}\.(json|safetensors))",
}
"""Names of all files below a published folder, which is removed only if it has no others."""
SUFFIXES = {METRICS: ".json", CURVES: ".csv", TIMINGS: ".json"}
"""Of the files, one per cell."""


class Published(NamedTuple):
    """One experiment as it was published: cell and folder, configuration, fingerprint, data and classes.

    The digest of the images is empty where an earlier version did not publish it.
    """

    cell: str
    folder: Path
    config: Config
    fingerprint: str
    split_digest: str
    data_digest: str = ""
    classes: tuple[str, ...] = ()


def remove_published(root: Path, kind: str, cell: str) -> None:
    """Remove a published folder, if it is there. Raises UnsafeName if it holds what fkal did not write."""
    remove_folder(root, f"{kind}/{cell}", LAYOUTS[kind])


def refuse_foreign(root: Path, kind: str, cell: str) -> None:
    """Raises UnsafeName where `remove_published` would."""
    own_folder(root, f"{kind}/{cell}", LAYOUTS[kind])


def cell_file(root: Path, kind: str, cell: str) -> Path:
    """Metrics, curves or timings of a cell. Raises UnsafeName where a link leads out of `root`."""
    return below(root, f"{kind}/{cell}{SUFFIXES[kind]}")


def published_folders(root: Path, cells: Sequence[str] | None = None) -> Iterator[Path]:
    """One per cell and seed, also what is left of one; `read_published` refuses what is not whole."""
    names = [path.name for path in sorted((root / EXPERIMENTS).glob("*"))] if cells is None else cells
    for cell in names:
        files = (root / EXPERIMENTS / cell).glob("s*/*")
        yield from sorted(
            {path.parent for path in files if re.fullmatch(LAYOUTS[EXPERIMENTS], "/".join(path.parts[-2:]))}
        )


def read_published(folder: Path) -> Published:
    """Its data are where the environment says, else where the plan said. Raises ConfigError for what is none."""
    path = folder / ABOUT
    try:
        about = json_of_file(path, str(path))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        config = merged([Layer(str(path), about["config"]), machine_layer()])
        return Published(
            cell=folder.parent.name,
            folder=folder,
            config=config,
            fingerprint=checked_fingerprint(about["fingerprint"], "fingerprint"),
            split_digest=digest(about["split_digest"], "split_digest"),
            data_digest=digest(about["data_digest"], "data_digest") if "data_digest" in about else "",
            classes=checked_names(about.get("classes", [])),
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: not a published experiment ({error}); bring it back: dvc checkout --force"
        ) from None


def read_timings(path: Path) -> Mapping[str, Any]:
    """Seconds and memory of a cell's rounds by seed, and what made them; empty where none were published.

    Raises ConfigError for a file that is not what was written.
    """
    try:
        values = json_of_file(path, str(path))
        if not isinstance(values, dict) or not all(map(_is_timed, values.values())):
            raise ValueError("no timings by seed and round")
        return values
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path}: not what was written ({error}); bring it back: dvc checkout --force") from None


def _is_timed(seed: Any) -> bool:
    return isinstance(seed, dict) and all(
        isinstance(each, dict) and CHECKS["seconds"](each.get("seconds", {})) for each in seed.values()
    )
