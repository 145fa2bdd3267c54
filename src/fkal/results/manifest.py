"""What an experiment is and what it was made with, kept beside its rounds so that they can be told of later."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fkal.config.documents import json_of_file
from fkal.config.layers import Layer, merged
from fkal.config.schema import Config, ConfigError
from fkal.experiment.names import algorithm
from fkal.identifiers import digest
from fkal.results.checkpoint import ABOUT
from fkal.results.class_names import checked_names, kept_names
from fkal.results.git import git_commit
from fkal.version import __version__

if TYPE_CHECKING:
    import torch

    from fkal.experiment.experiment import Experiment

FORMAT = "fkal-state-1"
ALGORITHM = "algorithm"
"""Of what an experiment was made with: the version that changes its results."""


class Manifest(NamedTuple):
    """Whose rounds are in a state directory; `made_with` names versions, hardware and the git commit.

    The digest of the images and the names of the classes are empty where an earlier version did not write them.
    """

    config: Config
    split_digest: str
    made_with: Mapping[str, str]
    data_digest: str = ""
    classes: tuple[str, ...] = ()


def about_bytes(experiment: Experiment) -> bytes:
    """The file's content."""
    told = {
        "format": FORMAT,
        "name": experiment.name,
        "fingerprint": experiment.fingerprint,
        "split_digest": experiment.split.digest,
        "data_digest": experiment.split.data_digest,
        "config": experiment.config.tree,
        "classes": kept_names(experiment.dataset.classes),
        "made_with": {ALGORITHM: algorithm(experiment.config), **made_with(experiment.device)},
    }
    return (json.dumps(told, indent=1) + "\n").encode()


def made_with(device: torch.device) -> dict[str, str]:
    """Versions, hardware, and the commit that is checked out in the working directory."""
    import torch  # a second and more, for those who make something alone

    commit = git_commit(Path.cwd())
    named = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return {
        "fkal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "device": f"{device}{named}",
        **({"git commit": commit} if commit else {}),
    }


def read_about(folder: Path) -> Manifest | None:
    """None where the folder has no such file. Raises ConfigError for one that is not what was written."""
    path = folder / ABOUT
    try:
        told: Any = json_of_file(path, str(path))
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}, not {FORMAT}")
        config = merged([Layer(str(path), told["config"])])
        split_digest = digest(told["split_digest"], "split_digest")
        data_digest = digest(told["data_digest"], "data_digest") if "data_digest" in told else ""
        made = {str(k): str(v) for k, v in told["made_with"].items()}
        return Manifest(config, split_digest, made, data_digest, checked_names(told.get("classes", [])))
    except FileNotFoundError:
        return None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: does not describe an experiment ({error}); the same `fkal run` writes it again"
        ) from None
