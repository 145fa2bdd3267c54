"""Images of a batch, or all labeled ones, as files for other programs. Imports no torch.

| name | what is written |
| --- | --- |
| `csv` | one file with the columns of to_label.csv |
| `labelstudio` | tasks.json and labeling_config.xml |
| `imagefolder` | a folder per class; images without one are in `_unsorted` |
| `coco` | images/, annotations.json (a box around each whole image), guesses.json in the form of COCO's results |
| `fiftyone` | FiftyOneImageClassificationDataset: data/, labels.json |
| `hf` | Hugging Face's imagefolder: train/ with metadata.jsonl |
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fkal.atomic_files import write_whole
from fkal.errors import ConfigError, did_you_mean, listed, shortened
from fkal.escaping import file_stem
from fkal.folders import finish_folder, unfinished_folder
from fkal.labeling.answers import label_rows
from fkal.labeling.batch import Batch, BatchImage, to_label_text
from fkal.labeling.books import Books
from fkal.labeling.given_labels import DIGEST_FIELD, PATH_FIELD, UNSORTED
from fkal.labeling.label_store import live_rows
from fkal.labeling.label_studio_tasks import labeling_config, task_of
from fkal.labeling.page_images import VanishedImage, image_bytes
from fkal.labeling.project import Project
from fkal.notify import Notify

SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")


@dataclass(frozen=True)
class Exported:
    """Where files were written, how many images they have, and those that could not be read."""

    place: Path
    images: int
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportItem:
    """One image: its row of a batch, in `image.label` its class if it has one, and its size.

    `check` is the identifier of a batch that asks for a second look (`fkal relabel`), else empty.
    """

    image: BatchImage
    width: int
    height: int
    check: str = ""


def batch_items(project: Project, batch: Batch) -> list[ExportItem]:
    """Images of the batch that wait for an answer, in order of rank."""
    missing = batch.missing(live_rows(label_rows(project)))
    items = _items(project, [replace(image, label="") for image in missing])
    check = batch.request.batch if batch.request.kind == "relabel" else ""
    return [replace(item, check=check) for item in items]


def labeled_items(project: Project) -> list[ExportItem]:
    """All labeled images of the pool. Raises ConfigError where annotators disagree."""
    books = Books.of(project)
    books.labels()
    rows = [row for row in books.answers.rows.values() if row.status == "labeled"]
    return _items(project, [BatchImage(row.path, row.digest, rank, label=row.label) for rank, row in enumerate(rows)])


def hidden_guesses(items: Sequence[ExportItem]) -> list[ExportItem]:
    """Without guesses and matched validation images, whose class is a guess as well."""
    none: Mapping[str, Any] = {"guess": "", "guess_probability": None, "matched_validation": ""}
    return [replace(item, image=replace(item.image, **none)) for item in items]


def export(
    project: Project,
    items: Sequence[ExportItem],
    *,
    to: str,
    place: Path,
    guesses: bool = True,
    document_root: Path | None = None,
    say: Notify,
) -> Exported:
    """Write the items to `place`, which must not be there yet: people may have sorted what an earlier export wrote.

    An image that cannot be read is left out and named. Without `guesses` no guess is written.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {shortened(to)}: {did_you_mean(to, FORMATS)}give one of {', '.join(FORMATS)}")
    if not items:
        raise ConfigError("there is no image to export; select a batch, or give --labeled for those with a label")
    if not guesses:
        items = hidden_guesses(items)
    if place.exists():
        raise ConfigError(f"{place}: is there already; name another place, or move it away")
    place.parent.mkdir(parents=True, exist_ok=True)
    if to == "csv":
        write_whole(place, to_label_text([item.image for item in items]).encode())
        return Exported(place, len(items))
    scratch = unfinished_folder(place)
    left_out = FOLDERS[to](Export(project, scratch, document_root), items)
    finish_folder(scratch, place)
    for name in left_out:
        say(f"left out: {name}")
    return Exported(place, len(items) - len(left_out), tuple(left_out))


@dataclass(frozen=True)
class Export:
    """Where one export is written."""

    project: Project
    folder: Path
    document_root: Path | None

    def copied(self, items: Sequence[ExportItem], folder_of: Callable[[ExportItem], str]) -> Iterator["Copied"]:
        """Each image once it is below the folder. One that cannot be read comes with the reason instead."""
        width = len(str(len(items)))
        positions = self.project.pool.positions([item.image.digest for item in items])
        for number, (item, position) in enumerate(zip(items, positions, strict=True), 1):
            path = PurePosixPath(item.image.path)
            suffix = path.suffix.lower() if SUFFIX.fullmatch(path.suffix) else ""
            name = f"{number:0{width}d}_{file_stem(path.stem)}{suffix}"
            target = PurePosixPath(folder_of(item), name)
            try:
                if position is None:
                    raise VanishedImage(f"{item.image.path}: is not in the pool any more")
                content = image_bytes(self.project, self.project.pool[position])
            except VanishedImage as error:
                yield Copied(item, str(target), str(error))
                continue
            (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / target).write_bytes(content)
            yield Copied(item, str(target))

    def write_json(self, name: str, value: Any) -> None:
        (self.folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n", encoding="ascii")


@dataclass(frozen=True)
class Copied:
    """An image, its path below the export's folder, and why it could not be copied."""

    item: ExportItem
    path: str
    problem: str = ""


def _image_folder(export: Export, items: Sequence[ExportItem]) -> list[str]:
    """A folder for every class, so that an image can be moved to each."""
    folders = {name: file_stem(name) for name in export.project.classes}
    odd = [name for name, folder in folders.items() if name != folder]
    if odd:
        raise ConfigError(
            f"class {shortened(odd[0])} cannot be the name of a folder everywhere; export csv instead, or rename it"
        )
    for folder in (*folders.values(), UNSORTED):
        (export.folder / folder).mkdir()
    return _problems(export.copied(items, lambda item: item.image.label or item.image.guess or UNSORTED))


def _coco(export: Export, items: Sequence[ExportItem]) -> list[str]:
    """Categories count from 1, as in COCO's own files."""
    numbers = {name: number for number, name in enumerate(export.project.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    guesses: list[dict[str, Any]] = []
    problems = []
    for number, each in enumerate(export.copied(items, lambda _: "images"), 1):
        if each.problem:
            problems.append(each.problem)
            continue
        image, (width, height) = each.item.image, _size(export, each)
        images.append(
            {
                "id": number,
                "file_name": PurePosixPath(each.path).name,
                "width": width,
                "height": height,
                PATH_FIELD: image.path,
                DIGEST_FIELD: image.digest,
            }
        )
        entry = {"image_id": number, "bbox": [0, 0, width, height]}
        if image.label:
            number_of_class, area = numbers[image.label], width * height
            whole = {"id": len(annotations) + 1, "category_id": number_of_class, "area": area, "iscrowd": 0}
            annotations.append({**entry, **whole, "segmentation": []})
        if image.guess in numbers:
            guesses.append({**entry, "category_id": numbers[image.guess], "score": _probability(image)})
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    info = {"description": f"{export.project.name}, exported by fkal"}
    file = {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    export.write_json("annotations.json", file)
    if guesses:
        export.write_json("guesses.json", guesses)
    return problems


def _size(export: Export, each: Copied) -> tuple[int, int]:
    """As the pool lists it; of an image behind a URL, as its file says."""
    if each.item.width and each.item.height:
        return each.item.width, each.item.height
    from fkal.data.decoding import header

    with (export.folder / each.path).open("rb") as file:
        found = header(file, each.item.image.path)
    return found.width, found.height


def _fiftyone(export: Export, items: Sequence[ExportItem]) -> list[str]:
    """Labels are places in the list of classes. A guess has its confidence; an image with neither is left unlabeled."""
    classes = export.project.classes
    labels: dict[str, Any] = {}
    problems = []
    for each in export.copied(items, lambda _: "data"):
        if each.problem:
            problems.append(each.problem)
            continue
        image, key = each.item.image, PurePosixPath(each.path).stem
        attributes = {PATH_FIELD: image.path, DIGEST_FIELD: image.digest}
        if image.label:
            labels[key] = {"label": classes.index(image.label), "attributes": attributes}
        elif image.guess in classes:
            guess = {"label": classes.index(image.guess), "confidence": _probability(image)}
            labels[key] = {**guess, "attributes": attributes}
    export.write_json("labels.json", {"classes": list(classes), "labels": labels})
    return problems


def _hugging_face(export: Export, items: Sequence[ExportItem]) -> list[str]:
    """Every line has the same fields, since a data set has columns; `label` is null where there is none yet."""
    lines, problems = [], []
    for each in export.copied(items, lambda _: "train"):
        if each.problem:
            problems.append(each.problem)
            continue
        image = each.item.image
        line = {
            "file_name": PurePosixPath(each.path).name,
            "label": image.label or None,
            "guess": image.guess or None,
            "guess_probability": image.guess_probability,
            PATH_FIELD: image.path,
            DIGEST_FIELD: image.digest,
        }
        lines.append(json.dumps(line, ensure_ascii=True))
    if lines:
        (export.folder / "train" / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="ascii")
    return problems


def _label_studio(export: Export, items: Sequence[ExportItem]) -> list[str]:
    """Tasks name the images where they are; Label Studio serves them from its document root."""
    positions = export.project.pool.positions([item.image.digest for item in items])
    tasks, problems = [], []
    for item, position in zip(items, positions, strict=True):
        if position is None:
            problems.append(f"{item.image.path}: is not in the pool any more")
            continue
        location = export.project.location("pool", export.project.pool[position])
        tasks.append(task_of(item.image, location, document_root=export.document_root, check=item.check))
    export.write_json("tasks.json", tasks)
    (export.folder / "labeling_config.xml").write_text(labeling_config(export.project.classes), encoding="utf-8")
    return problems


FOLDERS: Mapping[str, Callable[[Export, Sequence[ExportItem]], list[str]]] = {
    "labelstudio": _label_studio,
    "imagefolder": _image_folder,
    "coco": _coco,
    "fiftyone": _fiftyone,
    "hf": _hugging_face,
}
FORMATS = ("csv", *FOLDERS)


def _items(project: Project, images: Sequence[BatchImage]) -> list[ExportItem]:
    positions = project.pool.positions([image.digest for image in images])
    gone = [image.path for image, position in zip(images, positions, strict=True) if position is None]
    if gone:
        raise ConfigError(f"not in the pool any more: {listed(gone)}; add their images: fkal pool add FOLDER")
    sizes = [project.pool[position] for position in positions if position is not None]
    return [ExportItem(image, found.width or 0, found.height or 0) for image, found in zip(images, sizes, strict=True)]


def _probability(image: BatchImage) -> float:
    return 1.0 if image.guess_probability is None else image.guess_probability


def _problems(copied: Iterator[Copied]) -> list[str]:
    return [each.problem for each in copied if each.problem]
