"""What each training of a project left: `rounds/NN/trained.json` for people, the weights in `.fkal/state`.

`trained.json` is written last: it is the mark that the round is finished.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes
from fkal.data.regular_files import FileTooLarge, IrregularFile, read_regular
from fkal.errors import ConfigError, shortened
from fkal.folders import below, in_place
from fkal.labeling.batch import FOLDER, reason_of, round_folders
from fkal.labeling.project import Project
from fkal.results.round_facts import UnusableRound, read_facts

if TYPE_CHECKING:
    from fkal.engine.rounds import Round

TRAINED = "trained.json"
FORMAT = "fkal-trained-1"
LARGEST_TENSORS = 2**36
"""Bytes of a round's weights that are read."""
LARGEST = 2**30
"""Bytes of a trained.json that is read."""


@dataclass(frozen=True)
class Training:
    """One finished training: its figures as a round has them, what it was made of, and when.

    `made_of` is the digest of all that the result depends on. `facts` has digests, counts and the method by name.
    """

    b: int
    made_of: str
    time: str
    classes: tuple[str, ...]
    round: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.round["metrics"]

    @property
    def labels_used(self) -> int:
        return int(self.round["labels_used"])


class _NearCopies(BaseModel):
    model_config = ConfigDict(strict=True)

    similarity: FiniteFloat
    left_out: FiniteFloat


class _Facts(BaseModel):
    """What `fkal status` and others read of a training besides its figures."""

    model_config = ConfigDict(strict=True, extra="allow")

    validation_right: Annotated[str, Field(pattern="^[01]+$")]
    validation_alone: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    mix: dict[str, Annotated[FiniteFloat, Field(ge=0)]] = {}
    dedup: _NearCopies | None = None
    test_images: NonNegativeInt = 0
    pool_digest: str = ""
    validation_digest: str = ""
    pool_images: NonNegativeInt = 0
    skipped: NonNegativeInt = 0
    none_of_these: NonNegativeInt = 0
    settings: dict[str, str | int | float | bool | None] = {}
    standardising: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class _Document(BaseModel):
    """trained.json as it is read."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["fkal-trained-1"]
    made_of: Annotated[str, Field(strict=True)]
    time: AwareDatetime
    classes: list[Annotated[str, Field(strict=True, min_length=1)]] = Field(min_length=1)
    facts: _Facts
    round: dict[str, Any]


def trainings(project: Project) -> list[Training]:
    """All finished ones, in order. Raises ConfigError for a file that is not what was written."""
    matches = map(FOLDER.fullmatch, round_folders(project.rounds_path))
    numbers = sorted(int(match["round"]) for match in matches if match and not match["more"])
    found = [read_training(project, b) for b in numbers]
    return [each for each in found if each is not None]


def read_training(project: Project, b: int) -> Training | None:
    """The training of round b; None where there is none."""
    path = project.rounds_path / f"{b:02d}" / TRAINED
    try:
        said = json.loads(file_bytes(path, str(path), most=LARGEST))
        document = _Document.model_validate(said)
        facts = read_facts(json.dumps(document.round).encode())
        if facts["b"] != b:
            raise ConfigError(f"{path}: is of round {facts['b']}; give its folder that number")
        return Training(
            b=b,
            made_of=document.made_of,
            time=said["time"],
            classes=tuple(document.classes),
            round=facts,
            facts=document.facts.model_dump(exclude_unset=True),
        )
    except FileNotFoundError:
        return None
    except (UnusableRound, ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{path}: is not what fkal wrote ({reason_of(error)}); remove it and run fkal train"
        ) from None


def read_round(project: Project, training: Training) -> Round | None:
    """The round with its weights; None where `.fkal/state` has them no more, as after a fresh clone."""
    from fkal.results.round_io import load_round

    try:
        tensors = read_regular(_tensors_path(project, training.b), limit=LARGEST_TENSORS)
        return load_round(tensors, json.dumps(training.round).encode())
    except (FileNotFoundError, UnusableRound):
        return None
    except (IrregularFile, FileTooLarge) as error:
        raise ConfigError(
            f"{_tensors_path(project, training.b)}: {error.strerror}; remove it, then fkal train"
        ) from None


def refuse_other_classes(training: Training, classes: Sequence[str]) -> None:
    """Raises ConfigError where a class has another place than when the model was trained: its outputs have no names."""
    for line, (name, before) in enumerate(zip_longest(classes[: len(training.classes)], training.classes), 1):
        if name != before:
            now = "is missing" if name is None else f"is {shortened(name)}"
            raise ConfigError(
                f"classes.txt: line {line} {now}, and was {shortened(before)} when round {training.b} "
                "was trained; put it back, since the model knows classes by their line"
            )


def write_training(
    project: Project, finished: Round, *, made_of: str, time: str, classes: tuple[str, ...], facts: Mapping[str, Any]
) -> Training:
    """Keeps a round that was trained just now; the weights first, so that a kill in between leaves no half of it."""
    from fkal.results.round_io import round_bytes

    tensors, about = round_bytes(finished)
    folder = below(project.rounds_path, f"{finished.b:02d}")
    folder.mkdir(parents=True, exist_ok=True)
    project.state_path.mkdir(parents=True, exist_ok=True)
    write_whole(_tensors_path(project, finished.b), tensors)
    document = {
        "format": FORMAT,
        "made_of": made_of,
        "time": time,
        "classes": list(classes),
        "facts": dict(facts),
        "round": json.loads(about),
    }
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(in_place(folder, TRAINED), f"{text}\n".encode())
    training = read_training(project, finished.b)
    assert training is not None
    return training


def _tensors_path(project: Project, b: int) -> Path:
    return in_place(project.state_path, f"round-{b:02d}.safetensors")
