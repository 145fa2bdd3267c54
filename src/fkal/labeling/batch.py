"""A batch: the images that one `select`, `audit`, `relabel` or `val start` asks people to label.

It is a folder `rounds/NN/` (`rounds/NN-2/` for a further batch of the same round). `request.json` holds the whole
batch and is written last, so that a folder without it is no batch. `to_label.csv` holds the same images for people and
their programs; nothing is read from it but the labels that `fkal label import` finds there. Imports no torch.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from fkal.atomic_files import write_whole
from fkal.config.documents import file_bytes
from fkal.config.rules import rule_of
from fkal.errors import ConfigError, shortened
from fkal.folders import in_place
from fkal.identifiers import FILE_DIGEST, UnsafeName
from fkal.labeling.label_store import LabelRow
from fkal.results.csv_files import csv_rows
from fkal.version import __version__

REQUEST, TO_LABEL = "request.json", "to_label.csv"
FOLDER = re.compile(r"(?P<round>\d{2,6})(-(?P<more>[1-9]\d{0,3}))?")
FORMAT = "fkal-batch-1"
LARGEST = 2**30
"""Bytes of a request.json that is read."""

MOVE_AWAY = "remove it, or give it another name"

ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
"""Of a path in a request, which is shown and written as it is."""

Kind = Literal["select", "audit", "relabel", "validation"]
State = Literal["open", "done", "withdrawn"]


@dataclass(frozen=True)
class BatchImage:
    """One image that is asked for, as a row of to_label.csv.

    `path` is the one of the pool's listing, `matched_validation` that of the validation image that it was matched
    with, `duplicates` are further files with the same bytes. What a method does not know is None or empty.
    """

    path: Annotated[str, Field(min_length=1, pattern=ONE_LINE)]
    digest: Annotated[str, Field(pattern=f"^{FILE_DIGEST.pattern}$")]
    rank: NonNegativeInt
    score: FiniteFloat | None = None
    guess: str = ""
    guess_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    matched_validation: str = ""
    duplicates: tuple[str, ...] = ()
    label: str = ""


COLUMNS = tuple(each.name for each in fields(BatchImage))


@dataclass(frozen=True)
class BatchRequest:
    """What a batch was asked for by. `batch` is its identifier, say `r01-2` of the folder `rounds/01-2/`."""

    kind: Kind
    round: int
    batch: str
    method: str = ""
    seed: int = 0
    pool_digest: str = ""
    validation_digest: str = ""
    time: str = ""
    version: str = __version__
    withdrawn: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the command that wrote it wants to keep, as JSON has it."""


@dataclass(frozen=True)
class Batch:
    """The request and its images in the order in which they are labeled.

    Example:
        >>> images = (BatchImage("a.jpg", "00", 0), BatchImage("b.jpg", "01", 1))
        >>> batch = Batch(Path("rounds/01"), BatchRequest("select", 1, "r01"), images)
        >>> [image.path for image in batch.missing([LabelRow("a.jpg", "00", "cat")])]
        ['b.jpg']
        >>> batch.state([LabelRow("a.jpg", "00", "cat")])
        'open'
    """

    folder: Path
    request: BatchRequest
    images: tuple[BatchImage, ...]

    @property
    def name(self) -> str:
        return self.request.batch

    @classmethod
    def write(cls, folder: Path, request: BatchRequest, images: Iterable[BatchImage]) -> Self:
        """Write both files. The batch is there once request.json is; the same call writes the same files again."""
        batch = cls(folder, request, tuple(images))
        if batch_id(folder.name) != request.batch or not FOLDER.fullmatch(folder.name):
            raise ValueError(f"{folder}: not the folder of batch {request.batch!r}; its folder is named by it")
        if len({image.digest for image in batch.images}) < len(batch.images):
            raise ValueError(f"{folder}: an image is asked for twice; give each digest once")
        _refuse_link(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(in_place(folder, TO_LABEL), to_label_text(batch.images).encode())
        batch._write_request()
        return batch

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ConfigError for a request that is not what was written, FileNotFoundError where there is none."""
        path = folder / REQUEST
        try:
            document = _Document.model_validate(json.loads(file_bytes(path, str(path), most=LARGEST)))
            _Facts.model_validate(document.request.facts)
        except (ValidationError, ValueError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path}: is not what fkal wrote ({reason_of(error)}); restore it, say by git") from None
        if document.request.batch != batch_id(folder.name):
            raise ConfigError(f"{path}: is of batch {shortened(document.request.batch)}; give its folder that name")
        number, _ = batch_order(folder.name)
        if document.request.round != number:
            raise ConfigError(f"{path}: is of round {document.request.round}, its folder of {number}; restore it")
        images = tuple(document.images)
        if len({image.digest for image in images}) < len(images):
            raise ConfigError(f"{path}: asks for an image twice; restore it, say by git")
        return cls(folder, document.request, images)

    def withdraw(self) -> Self:
        """The batch, which from now on asks for nothing; its labels stay."""
        batch = replace(self, request=replace(self.request, withdrawn=True))
        batch._write_request()
        return batch

    def answers(self, rows: Iterable[LabelRow]) -> dict[str, list[LabelRow]]:
        """The last answer of each annotator to this batch, by digest. `rows` are all that `live_rows` gives.

        Images of `select`, `audit` and `validation` may have been answered anywhere. `relabel` asks again, so only
        rows of its own batch answer it, and they do so whatever came later.
        """
        asked = {image.digest for image in self.images}
        found: dict[str, dict[str, LabelRow]] = {}
        for row in rows:
            if row.digest in asked and (self.request.kind != "relabel" or row.batch == self.name):
                of_image = found.setdefault(row.digest, {})
                of_image.pop(row.annotator, None)
                of_image[row.annotator] = row
        return {digest: list(of_image.values()) for digest, of_image in found.items()}

    def missing(self, rows: Iterable[LabelRow]) -> list[BatchImage]:
        """Images without an answer, in order; a skip with its reason and "none of these" are answers."""
        answered: Collection[str] = self.answers(rows)
        return [image for image in self.images if image.digest not in answered]

    def state(self, rows: Iterable[LabelRow]) -> State:
        if self.request.withdrawn:
            return "withdrawn"
        return "open" if self.missing(rows) else "done"

    def _write_request(self) -> None:
        document = {
            "format": FORMAT,
            "request": asdict(self.request),
            "images": [asdict(image) for image in self.images],
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        write_whole(in_place(self.folder, REQUEST), f"{text}\n".encode())


def to_label_text(images: Iterable[BatchImage]) -> str:
    """The content of to_label.csv, the column `label` for people to fill."""
    return csv_rows([COLUMNS, *(_cells(image) for image in images)])


def all_batches(rounds: Path) -> list[Batch]:
    """Every batch below the folder `rounds`, in the order of rounds. Folders without a request are left out."""
    return [Batch.read(rounds / name) for name in round_folders(rounds) if (rounds / name / REQUEST).exists()]


def round_folders(rounds: Path) -> list[str]:
    """Names of the folders of rounds, in order. Raises ConfigError where anything else has such a name."""
    if rounds.exists() and not rounds.is_dir():
        raise ConfigError(f"{rounds}: is a file, and the rounds of a project are in a folder of that name; {MOVE_AWAY}")
    if not rounds.exists():
        return []
    names = sorted((path.name for path in rounds.iterdir() if FOLDER.fullmatch(path.name)), key=batch_order)
    for name in names:
        if not (rounds / name).is_dir():
            raise ConfigError(f"{rounds / name}: is no folder, and a round has a folder of that name; {MOVE_AWAY}")
    return names


def open_batches(rounds: Path, rows: Sequence[LabelRow]) -> list[Batch]:
    """Those that wait for labels; `rows` are all that `live_rows` gives."""
    return [batch for batch in all_batches(rounds) if batch.state(rows) == "open"]


def next_folder(rounds: Path, round_number: int) -> Path:
    """`rounds/01` for the first batch of round 1, `rounds/01-2` for a further one."""
    folder, more = rounds / f"{round_number:02d}", 1
    while (folder / REQUEST).exists():
        more += 1
        folder = rounds / f"{round_number:02d}-{more}"
    _refuse_link(folder)
    return folder


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UnsafeName(f"{folder}: a symbolic link, to {folder.readlink()}; remove the link")


def batch_id(folder_name: str) -> str:
    """`r01-2` for `01-2`, which spreadsheets would take for a date."""
    return f"r{folder_name}"


def batch_order(name: str) -> tuple[int, int]:
    """Sorts names of batches by round, then by number within it."""
    found = FOLDER.fullmatch(name)
    assert found is not None
    return int(found["round"]), int(found["more"] or 1)


class _Facts(BaseModel):
    """What other commands read of a request's facts."""

    model_config = ConfigDict(strict=True, extra="allow")

    wish: dict[str, Any] = {}
    near: dict[str, list[str]] = {}
    guesses: dict[str, str] = {}
    pool_images: NonNegativeInt = 0


class _Document(BaseModel):
    """request.json as it is read."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["fkal-batch-1"]
    request: BatchRequest
    images: list[BatchImage] = Field(min_length=1)


def _cells(image: BatchImage) -> list[object]:
    cells = {**asdict(image), "duplicates": json.dumps(image.duplicates) if image.duplicates else ""}
    return ["" if cells[name] is None else cells[name] for name in COLUMNS]


def reason_of(error: Exception) -> str:
    """Why a file is not what was written, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {rule_of(first)}" if place else f"{shortened(first['input'])}: {rule_of(first)}"
    return str(error)
