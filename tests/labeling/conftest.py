"""A project with a dozen images, a validation set and one open batch, written as its commands write it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fkal.labeling.batch import Batch, BatchImage, BatchRequest, batch_id
from fkal.labeling.label_store import LabelRow, LabelStore, now
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.project import Project, write_classes
from fkal.models.registry import resnet10

NAMES = ("a.png", "b c.png", "d&e%.png", "sub/a.png", "g'h\".png", "ü.png", "k.png", "l.png", "m.png", "n.png")


def picture(path: Path, seed: int, *, side: int = 24) -> str:
    """Writes an image; returns the digest of its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def labeling_project(tmp_path: Path) -> Project:
    """Images of NAMES in the pool, two for validation, classes cat, dog and owl, batch 01 of the first six."""
    folder = tmp_path / "project"
    (folder / ".fkal").mkdir(parents=True)
    (folder / "params.yaml").write_text("project: {name: pets, pools: [../images], validation: [../checked]}\n")
    pool = [ListedImage(name, picture(tmp_path / "images" / name, seed)) for seed, name in enumerate(NAMES)]
    checked = [
        ListedImage(f"{label}/1.png", picture(tmp_path / "checked" / label / "1.png", seed), label=label)
        for seed, label in enumerate(("cat", "dog"), 100)
    ]
    write_listing(folder / "pool.parquet", pool)
    write_listing(folder / "validation.parquet", checked, labeled=True)
    write_classes(folder / "classes.txt", ("cat", "dog", "owl"))
    project = Project.open(folder)
    make_batch(project, "01", range(6))
    return project


def make_batch(project: Project, name: str, positions, *, kind: str = "select", round: int = 1) -> Batch:
    images = [
        BatchImage(
            path=project.pool.paths[position],
            digest=project.pool.digests[position],
            rank=rank,
            score=1.0 / (rank + 1),
            guess=("cat", "dog", "owl")[rank % 3],
            guess_probability=0.9 - rank / 20,
            matched_validation="cat/1.png" if rank % 2 == 0 else "",
        )
        for rank, position in enumerate(positions)
    ]
    return Batch.write(project.rounds_path / name, BatchRequest(kind, round, batch_id(name), "fisher_coverage"), images)


@pytest.fixture
def batch_maker() -> Callable[..., Batch]:
    return make_batch


CLASSES = ("bottom", "left", "top")


def sign(path: Path, label: int, seed: int) -> str:
    """A bright bar under noise, whose place tells the class; returns the digest of the file's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 120, (16, 16, 3), dtype=np.uint8)
    bar = (slice(12, 16), slice(None)), (slice(None), slice(0, 4)), (slice(0, 4), slice(None))
    pixels[bar[label]] += 120
    Image.fromarray(pixels).save(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Signs:
    """A project of images whose classes a script knows: `truth` has the class of each pool image by path."""

    project: Project
    truth: Mapping[str, str]

    def answer(self, batch: Batch, *, of: Path | None = None) -> None:
        """Labels a batch as a script does that reads its images; `of` is a copy of the project's folder."""
        rows = [
            LabelRow(
                image.path,
                image.digest,
                self.truth[image.path],
                round=str(batch.request.round),
                batch=batch.name,
                source="script",
                seconds=2.0,
                time=now(),
            )
            for image in batch.images
        ]
        LabelStore(of or self.project.folder).append(rows)

    def again(self) -> Project:
        """The project as its files are now."""
        return Project.open(self.project.folder)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of weights of a resnet10, drawn at random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet10.safetensors"
    save_file({name: value.contiguous() for name, value in resnet10((3, 32, 32), 4).state_dict().items()}, path)
    return str(path)


def make_signs(
    place: Path,
    name: str = "signs",
    *,
    n: int = 48,
    groups: Callable[[int], str | None] = lambda i: None,
    test: int = 0,
    backbone: str = "",
    settings: str = "",
) -> Signs:
    """Makes a project; `groups` gives the group of the i-th pool image, `test` how many test images there are.

    With `backbone`, a file of weights of a resnet10, that stays frozen below a linear head, else a LeNet learns.
    """
    home = place / name
    folder = home / "project"
    (folder / ".fkal").mkdir(parents=True)
    paths = [f"{i:03d}.png" for i in range(n)]
    labels = [(i * i + i // 3) % 3 for i in range(n)]
    pool = [
        ListedImage(path, sign(home / "images" / path, label, i), group=groups(i), width=16, height=16)
        for i, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    write_listing(folder / "pool.parquet", pool)
    if any(image.group for image in pool):
        rows = "".join(f"{image.path},{image.group or ''}\n" for image in pool)
        (home / "images" / "metadata.csv").write_text(f"file_name,group\n{rows}")
    for part, count, first in (("validation", 18, 1000), ("test", test, 2000)):
        known = []
        for i in range(count):
            path = f"{CLASSES[i % 3]}/{i:03d}.png"
            digest = sign(home / part / path, i % 3, first + i)
            known.append(ListedImage(path, digest, width=16, height=16, label=CLASSES[i % 3]))
        write_listing(folder / f"{part}.parquet", known, labeled=True)
    write_classes(folder / "classes.txt", CLASSES)
    tested = ", test: [../test]" if test else ""
    model = f"{{name: resnet10, weights: {json.dumps(backbone)}}}" if backbone else "{name: lenet}"
    learning = "layers: frozen" if backbone else "epochs: 4, batch_size: 6, lr: 0.02, decay_epochs: [3]"
    (folder / "params.yaml").write_text(
        f"project: {{name: {name}, pools: [../images], validation: [../validation]{tested}}}\n"
        f"data: {{image_size: 16, workers: 0}}\nmodel: {model}\npretrain: {{task: none}}\n"
        f"train: {{{learning}}}\n"
        f"acquisition: {{budget: 6, rounds: 2}}\nthreads: 1\ndevice: cpu\n{settings}"
    )
    return Signs(Project.open(folder), {p: CLASSES[label] for p, label in zip(paths, labels, strict=True)})


@pytest.fixture
def signs(tmp_path: Path) -> Callable[..., Signs]:
    """Makes a project in a folder of the test's own; takes what `make_signs` takes."""
    return partial(make_signs, tmp_path)


@pytest.fixture(scope="session")
def made_signs() -> Callable[..., Signs]:
    """The same in a folder that is named, for projects that several tests share."""
    return make_signs
