"""What runs are known by: the tags by which they are found and traced back, the params by which they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fkal.results.git import git_commit
from fkal.version import __version__

if TYPE_CHECKING:
    import torch

    from fkal.data.splits import Split

KEY = "fkal.key"
DATA_DIGEST = "fkal.data_digest"
KIND = "fkal.kind"
PROJECT = "fkal.project"
"""Of the runs of an own pool: its name."""
NAME = "fkal.name"
METHOD_KEY = "fkal.method_key"
METHOD_TITLE = "fkal.method_title"
COMMAND = "fkal.command"
SEED = "fkal.seed"
NOTE = "mlflow.note.content"
ROUND_DIGEST = "fkal.round_digest"
SUPERSEDED = "fkal.superseded_key"
PARENT = "mlflow.parentRunId"
RECORDED = {
    "fkal.algorithm": "algorithm",
    "fkal.version": "fkal",
    "fkal.device": "device",
    "fkal.git_commit": "git commit",
}
"""Tags by what a state's `made_with` calls them."""

NOT_A_STUDYS = frozenset({"fkal.fingerprint", SEED, NAME})
"""Tags of one experiment that a study of many has not."""

MadeWith = Mapping[str, str] | None
"""What was recorded of the process that ran an experiment; None: it is this one."""


class Traced(Protocol):
    """What the tags say about an experiment."""

    @property
    def name(self) -> str: ...
    @property
    def method_digest(self) -> str: ...
    @property
    def cell(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def protocol(self) -> str: ...
    @property
    def split(self) -> Split: ...
    @property
    def device(self) -> torch.device: ...


class Compared(Traced, Protocol):
    """What the params say about an experiment."""

    @property
    def read_params(self) -> Mapping[str, Any]: ...
    @property
    def method_title(self) -> str: ...

    def command(self, seeds: Sequence[int]) -> str: ...


def compared_params(experiment: Compared) -> dict[str, Any]:
    """The settings it reads, and in one word each what they make: MLflow compares runs by params, not by tags."""
    return {"method": experiment.tags["method"], "bias": experiment.tags["bias"], **experiment.read_params}


def parent_tags(experiment: Compared, made_with: MadeWith = None) -> dict[str, str]:
    return {
        **_tags(experiment, made_with),
        KIND: "experiment",
        KEY: experiment.fingerprint,
        METHOD_KEY: method_key(experiment, made_with),
        METHOD_TITLE: experiment.method_title,
        COMMAND: experiment.command([experiment.seed]),
    }


def method_key(experiment: Traced, made_with: MadeWith = None) -> str:
    """What the seeds of one method share: the cell, images, all settings but the seed, version of the algorithm."""
    algorithm = (made_with or {}).get("algorithm", experiment.tags.get("algorithm", ""))
    images = experiment.split.data_digest[:12]
    return f"{experiment.cell}/{images}/{experiment.method_digest[:12]}/{algorithm}"


def child_tags(experiment: Traced, b: int, *, parent: str, digest: str, made_with: MadeWith = None) -> dict[str, str]:
    return {
        **_tags(experiment, made_with),
        KIND: "round",
        KEY: child_key(experiment.fingerprint, b),
        ROUND_DIGEST: digest,
        PARENT: parent,
    }


def study_tags(experiment: Traced, *, kind: str, key: str) -> dict[str, str]:
    """Of a study's or a trial's run; `experiment` is the configured one, of the first seed."""
    own = {name: value for name, value in _tags(experiment).items() if name not in NOT_A_STUDYS}
    return {**own, KIND: kind, KEY: key}


def child_key(fingerprint: str, b: int) -> str:
    return f"{fingerprint}/b{b:02d}"


def _tags(experiment: Traced, made_with: MadeWith = None) -> dict[str, str]:
    made = _here(experiment.device, Path.cwd()) if made_with is None else _elsewhere(made_with)
    own = {f"fkal.{name}": value for name, value in experiment.tags.items()}
    return {
        **{name: value for name, value in own.items() if made_with is None or name not in RECORDED},
        NAME: experiment.name,
        "fkal.fingerprint": experiment.fingerprint,
        "fkal.cell": experiment.cell,
        SEED: str(experiment.seed),
        "fkal.protocol": experiment.protocol,
        "fkal.split_digest": experiment.split.digest,
        DATA_DIGEST: experiment.split.data_digest,
        "mlflow.source.name": "fkal",
        **made,
    }


def _elsewhere(made_with: Mapping[str, str]) -> dict[str, str]:
    """What was recorded of another process; who ran it was not."""
    return {tag: made_with[name] for tag, name in RECORDED.items() if name in made_with}


@lru_cache(maxsize=8)
def _here(device: torch.device, directory: Path) -> dict[str, str]:
    """Asked once a process; the code in memory does not change either."""
    import torch  # which `fkal runs` does without

    commit = git_commit(directory)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "fkal.version": __version__,
        "fkal.device": f"{device} ({named})" if named else str(device),
        "mlflow.user": _user(),
        **({"fkal.git_commit": commit} if commit else {}),
    }


def _user() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"
