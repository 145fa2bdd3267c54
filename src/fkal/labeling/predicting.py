"""The trained model of a project on new images, and as files for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fkal.atomic_files import whole_file, write_whole
from fkal.data.digest import files_digest
from fkal.data.errors import IncompleteData, printable
from fkal.data.images import ImageSet, TensorImages
from fkal.data.listed import ListedFiles, fit_in_memory, listed_images
from fkal.data.registry import IMAGENET_MEAN, IMAGENET_STD
from fkal.data.scaling import ScaledImages
from fkal.engine.loop import Weights
from fkal.engine.progress import Progress
from fkal.errors import ConfigError, LabelsMissing, MissingPackage, did_you_mean, shortened
from fkal.labeling.books import Books
from fkal.labeling.file_facts import FileFacts
from fkal.labeling.heads import weights_today
from fkal.labeling.learner import Learner
from fkal.labeling.manifest import Entry
from fkal.labeling.project import Project
from fkal.labeling.rounds import refuse_other_settings, watched
from fkal.labeling.sources import Source, source_at
from fkal.labeling.trainings import read_round, refuse_other_classes
from fkal.models.ensemble import Ensemble, members_of
from fkal.models.modes import evaluating
from fkal.notify import PLAIN, Display, Shown
from fkal.results.csv_files import csv_rows

FILES_AT_ONCE = 4096
"""So many images are decoded and held together, whatever their number."""
EXAMPLES = 2
PARQUET, CSV = ".parquet", ".csv"
COLUMNS = ("path", "label", "probability", "flaw")
HEADER = csv_rows([COLUMNS]).encode()
Write = Callable[[list[dict[str, Any]]], object]
Format = Literal["safetensors", "onnx"]
FORMATS: tuple[Format, ...] = ("safetensors", "onnx")


class Predicted(NamedTuple):
    """How many images have a prediction, how many could not be read, and where the table is."""

    path: Path
    images: int
    unreadable: int


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The last trained model of a project, and how images become its inputs."""

    learner: Learner
    weights: Weights
    b: int

    @classmethod
    def of(cls, project: Project, display: Display) -> TrainedModel:
        """Raises LabelsMissing where no model is trained."""
        books = Books.of(project)
        finished = None if books.last is None else read_round(project, books.last)
        if books.last is None or finished is None:
            raise LabelsMissing("no trained model is in .fkal/state; label images, then run fkal train")
        refuse_other_settings(books.last, project.config())
        learner = watched(Learner.ready(project, project.config(), display), display, project.name)
        refuse_other_classes(books.last, learner.classes)
        if len(finished.labeled_counts) != len(learner.classes):
            raise LabelsMissing("classes.txt has classes that the trained model lacks; run fkal train")
        weights = weights_today(project, books.last, finished, learner)
        if weights is None:
            raise LabelsMissing(
                f"the images have changed since round {finished.b}, and .fkal/state does not have how its embeddings "
                "were centred; run fkal train"
            )
        return cls(learner, weights, finished.b)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes an input: scaled to cover `size`, cropped around the centre, normalised."""
        channels, height, width = self.learner.dataset.train.shape
        backbone, data = self.learner.experiment.backbone, self.learner.experiment.config.data
        return {
            "channels": channels,
            "size": [height, width],
            "interpolation": backbone.view.interpolation if backbone else data.resampling,
            "mean": list((data.mean or IMAGENET_MEAN) if backbone is None else backbone.view.mean),
            "std": list((data.std or IMAGENET_STD) if backbone is None else backbone.view.std),
        }

    def network(self) -> nn.Module:
        """From normalised images to logits, on the CPU, in evaluation mode; a frozen backbone is a part of it."""
        experiment = self.learner.experiment
        loadable = experiment.loadable(self.weights, EXAMPLES)
        loadable.model.load_state_dict(dict(loadable.weights))
        parts = [loadable.model]
        if experiment.config.is_frozen:
            assert experiment.backbone is not None and experiment.backbone.embedder is not None
            parts = [experiment.backbone.embedder, loadable.model]
        return nn.Sequential(*parts).cpu().eval()

    def images(self, files: ListedFiles) -> ImageSet:
        """Files as the model takes them. Every one of them can be read."""
        said = self.preprocessing
        found = listed_images(
            files,
            torch.arange(len(files)),
            size=said["size"][0],
            mean=said["mean"],
            std=said["std"],
            workers=self.learner.experiment.config.data.workers,
            digest=files_digest([b""] * len(files), self.learner.dataset.train.shape, files.labels, files.classes),
            interpolation=said["interpolation"],
            decoding=self.learner.experiment.config.data.decoding,
            streamed=not fit_in_memory(len(files), said["size"][0]),
        )
        backbone = self.learner.experiment.backbone
        return found if backbone is None or not isinstance(found, TensorImages) else ScaledImages(found, backbone.view)

    def probabilities(self, images: ImageSet, shown: Shown) -> Float[Tensor, "n d"]:
        """Class probabilities, the mean over an ensemble's members."""
        network, device = self.network().to(self.learner.loop.device), self.learner.loop.device
        batch_size = self.learner.loop.method.config.acquisition.batch_size
        batches = torch.arange(len(images)).split(batch_size)
        first = next(network.children())
        members = members_of(first) if isinstance(first, Ensemble) else [network]
        parts = []
        done = 0
        for x in images.batches(batches, device=device):
            with torch.no_grad(), evaluating(network):
                p = [member(x).double().softmax(dim=1).cpu() for member in members]
            parts.append(torch.stack(p).mean(dim=0))
            done += len(x)
            shown.show(Progress("predicting", done, len(images), "images"))
        return torch.cat(parts) if parts else torch.empty(0, len(self.learner.classes))


def predict(project: Project, place: str, out: Path, display: Display = PLAIN) -> Predicted:
    """The class of each image of a folder or manifest, in a Parquet or CSV file: path, label, probability, flaw.

    A file that cannot be read has a flaw and no label. Raises MissingData where nothing is at the place, ConfigError
    where the file cannot be written.
    """
    project.refuse_output(out, PARQUET, CSV)
    _refuse_other_table(out)
    source = source_at(place, labeled=False)
    if not source.stray and next(source.entries(), None) is None:
        raise IncompleteData(f"{printable(place)}: lists no image; name another folder or list")
    with project.lock(display.notify):
        project = Project.open(project.folder)
        model = TrainedModel.of(project, display)
        images = unreadable = 0
        with (
            whole_file(out) as scratch,
            _csv_table(scratch) if out.suffix.lower() == CSV else _parquet_table(scratch) as write,
            FileFacts(project.facts_path) as facts,
        ):
            for rows in chain(_predicted(model, source, facts, display), [_strays(source)]):
                write(rows)
                images += sum(row["flaw"] is None for row in rows)
                unreadable += sum(row["flaw"] is not None for row in rows)
        return Predicted(out, images, unreadable)


def _refuse_other_table(out: Path) -> None:
    """Raises ConfigError for a table that is there and has no predictions: it may be a list of images or of labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not out.exists():
        return
    try:
        if out.suffix.lower() == CSV:
            with out.open("rb") as file:
                is_ours = file.readline(len(HEADER) + 1) == HEADER
        else:
            is_ours = tuple(pq.read_schema(out).names) == COLUMNS
    except (OSError, pa.ArrowException):
        is_ours = False
    if not is_ours:
        raise ConfigError(f"--out {out}: is there and is no table of predictions; name another file, or remove it")


@contextmanager
def _parquet_table(path: Path) -> Iterator[Write]:
    """Takes rows in blocks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.string(), pa.string(), pa.float64(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    with pq.ParquetWriter(path, schema) as table:
        yield lambda rows: table.write_table(pa.Table.from_pylist(rows, schema))


@contextmanager
def _csv_table(path: Path) -> Iterator[Write]:
    """The same; text that a spreadsheet would compute has an apostrophe in front."""
    with path.open("w", encoding="utf-8", newline="") as table:
        table.write(HEADER.decode())
        yield lambda rows: table.write(csv_rows(list(row.values()) for row in rows))


def _predicted(
    model: TrainedModel, source: Source, facts: FileFacts, display: Display
) -> Iterator[list[dict[str, Any]]]:
    entries, workers = iter(source.entries()), model.learner.experiment.config.data.workers
    while block := list(islice(entries, FILES_AT_ONCE)):
        addresses = [source.address(entry) for entry in block]
        with display.one("images") as shown:
            facts.learn(addresses, len(addresses), workers=workers, shown=shown, phase="reading images")
            flaws = [found.reason if found.flaw is not None else None for found in facts.of(addresses)]
            rows = _rows(model, source, block, flaws, shown)
        yield rows


def _strays(source: Source) -> list[dict[str, Any]]:
    """Rows of what cannot even be opened: dead links, pipes, names that are no text."""
    return [
        {"path": printable(name), "label": None, "probability": None, "flaw": reason} for name, reason in source.stray
    ]


def _rows(
    model: TrainedModel, source: Source, block: Sequence[Entry], flaws: Sequence[str | None], shown: Shown
) -> list[dict[str, Any]]:
    sound = [entry for entry, flaw in zip(block, flaws, strict=True) if flaw is None]
    labels = torch.full((len(sound),), -1)
    files = ListedFiles(
        (source.base,), [0] * len(sound), [entry.path for entry in sound], labels, model.learner.classes
    )
    best = model.probabilities(model.images(files), shown).max(dim=1) if sound else None
    found = {}
    if best is not None:
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        found = {entry.path: pair for entry, pair in zip(sound, pairs, strict=True)}
    rows = []
    for entry, flaw in zip(block, flaws, strict=True):
        label, p = found.get(entry.path, (None, None))
        name = None if label is None else model.learner.classes[label]
        rows.append({"path": entry.path, "label": name, "probability": p, "flaw": flaw})
    return rows


def export_model(project: Project, out: Path, kind: Format, display: Display = PLAIN) -> Path:
    """The trained model as a file, with its classes and how images become its inputs.

    Raises MissingPackage where ONNX is asked for and its package is not installed.
    """
    project.refuse_output(out, f".{kind}")
    with project.lock(display.notify):
        model = TrainedModel.of(Project.open(project.folder), display)
        about = {
            "format": "fkal-model-1",
            "project": project.name,
            "round": model.b,
            "model": model.learner.experiment.config.model.name,
            "classes": list(model.learner.classes),
            "preprocessing": model.preprocessing,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        EXPORTERS[kind](model, about, out)
        return out


def known_format(name: str) -> Format:
    """The name itself. Raises ConfigError for an unknown one."""
    for kind in FORMATS:
        if kind == name:
            return kind
    raise ConfigError(f"--format {shortened(name)}: {did_you_mean(name, FORMATS)}give {' or '.join(FORMATS)}")


def _as_safetensors(model: TrainedModel, about: Mapping[str, Any], out: Path) -> None:
    """The state dict of the network; its metadata has classes and preprocessing as JSON."""
    from safetensors.torch import save

    tensors = {name: value.contiguous().clone() for name, value in model.network().state_dict().items()}
    write_whole(out, save(tensors, metadata={"fkal": json.dumps(about)}))


def _as_onnx(model: TrainedModel, about: Mapping[str, Any], out: Path) -> None:
    """From normalised images to class probabilities, for any number of images."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise MissingPackage(
            "ONNX files need packages that are not installed; pip install 'fkal[onnx]', or take --format safetensors"
        ) from error
    network = nn.Sequential(model.network(), nn.Softmax(dim=1)).eval()
    examples = torch.zeros(EXAMPLES, *model.learner.dataset.train.shape)
    program = torch.onnx.export(
        network,
        (examples,),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"fkal": json.dumps(about)})
    write_whole(out, proto.SerializeToString())


EXPORTERS: Mapping[str, Callable[[TrainedModel, Mapping[str, Any], Path], None]] = MappingProxyType(
    {"safetensors": _as_safetensors, "onnx": _as_onnx}
)
"""By the name of the format."""
