"""What runs are known by: the tags by which they are found and traced back, the params by which they are compared."""

import subprocess
from collections.abc import Mapping
from functools import lru_cache
from getpass import getuser
from pathlib import Path
from typing import Any, Protocol

import torch

from fkal.data.splits import Split
from fkal.tracking.metrics import PAPER_NOTE
from fkal.version import __version__

KEY = "fkal.key"
KIND = "fkal.kind"
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

MadeWith = Mapping[str, str] | None
"""What was recorded of the process that ran an experiment; None: it is this one."""


class Traced(Protocol):
    """What the tags tell of an experiment."""

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
    """What the params tell of an experiment."""

    @property
    def params(self) -> Mapping[str, Any]: ...


def compared_params(experiment: Compared) -> dict[str, Any]:
    """The resolved settings, and in one word each what they make: MLflow compares runs by params, not by tags."""
    return {"method": experiment.tags["method"], "bias": experiment.tags["bias"], **experiment.params}


def parent_tags(experiment: Traced, made_with: MadeWith = None) -> dict[str, str]:
    note = {"mlflow.note.content": PAPER_NOTE} if experiment.protocol == "paper" else {}
    return {**_tags(experiment, made_with), KIND: "experiment", KEY: experiment.fingerprint, **note}


def child_tags(experiment: Traced, b: int, *, parent: str, digest: str, made_with: MadeWith = None) -> dict[str, str]:
    return {
        **_tags(experiment, made_with),
        KIND: "iteration",
        KEY: child_key(experiment.fingerprint, b),
        ROUND_DIGEST: digest,
        PARENT: parent,
    }


def study_tags(experiment: Traced, *, kind: str, key: str) -> dict[str, str]:
    """Of a study's or a trial's run; `experiment` is the configured one, of the first seed."""
    own = {name: value for name, value in _tags(experiment).items() if name not in ("fkal.fingerprint", "fkal.seed")}
    return {**own, "fkal.kind": kind, KEY: key}


def child_key(fingerprint: str, b: int) -> str:
    return f"{fingerprint}/b{b:02d}"


def git_commit(directory: Path) -> str | None:
    """The commit that is checked out there, with `-dirty` if files differ from it; None outside of git."""
    command = ["git", "-C", str(directory), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _tags(experiment: Traced, made_with: MadeWith = None) -> dict[str, str]:
    made = _here(experiment.device, Path.cwd()) if made_with is None else _elsewhere(made_with)
    own = {f"fkal.{name}": value for name, value in experiment.tags.items()}
    return {
        **{name: value for name, value in own.items() if made_with is None or name not in RECORDED},
        "fkal.fingerprint": experiment.fingerprint,
        "fkal.cell": experiment.cell,
        "fkal.seed": str(experiment.seed),
        "fkal.protocol": experiment.protocol,
        "fkal.split_digest": experiment.split.digest,
        "mlflow.source.name": "fkal",
        **made,
    }


def _elsewhere(made_with: Mapping[str, str]) -> dict[str, str]:
    """What was recorded of another process; who ran it was not."""
    return {tag: made_with[name] for tag, name in RECORDED.items() if name in made_with}


@lru_cache(maxsize=8)
def _here(device: torch.device, directory: Path) -> dict[str, str]:
    """Asked once a process; the code in memory does not change either."""
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
