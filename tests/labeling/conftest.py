"""A project with a dozen images, a validation set and one open batch, written as its commands write it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fkal.labeling.batch import Batch, BatchImage, BatchRequest, batch_id
from fkal.labeling.listing import ListedImage, write_listing
from fkal.labeling.project import Project, write_classes

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
