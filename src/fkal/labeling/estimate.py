"""How long one pass over a pool will take, and what it will leave on the disk; measured on a few images."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from fkal.config.schema import Config
from fkal.data.addresses import is_url
from fkal.data.decoding import decode
from fkal.data.errors import CorruptImage
from fkal.data.listed import ListedFiles
from fkal.experiment.backbone import Backbone, backbone_of
from fkal.experiment.device import device_named, reproducible
from fkal.labeling.listing import Listing
from fkal.labeling.project import Project
from fkal.labeling.project_dataset import median_side
from fkal.models.registry import build
from fkal.models.taps import tap_widths

SAMPLE = 64
"""Images that are read, and pass the model, to measure both."""
BYTES_PER_NUMBER = 4
PARTS_OF_DESCRIPTOR = 2
"""Features and gradients."""


@dataclass(frozen=True)
class Estimate:
    """One pass over the pool: seconds to read and decode it, seconds of the model, bytes of its descriptors."""

    read_seconds: float
    model_seconds: float
    disk_bytes: int


def estimated(config: Config, project: Project, pool: Listing) -> Estimate | None:
    """None where nothing can be measured: no image is on this machine."""
    rows = [row for row in range(0, len(pool), max(1, len(pool) // SAMPLE)) if not is_url(pool.paths[row])][:SAMPLE]
    if not rows:
        return None
    device = device_named(config.device)
    own = config.model_copy(update={"data": replace(config.data, name="folder", folder=".")})
    backbone = backbone_of(own)
    size = config.data.image_size if backbone is None else backbone.view.size
    size = size or median_side(pool)
    shape = (3, size, size)
    model, numbers = _model(config, project, backbone, shape)
    model = model.to(device).eval()
    images = torch.zeros(len(rows), *shape, device=device)
    with reproducible(config.threads), torch.inference_mode():
        model(images[:2])
        began = time.perf_counter()
        model(images)
        passed = time.perf_counter() - began
    return Estimate(
        read_seconds=_reading(project, pool, rows) / len(rows) * len(pool) / max(1, config.data.workers),
        model_seconds=passed / len(rows) * len(pool),
        disk_bytes=len(pool) * numbers * BYTES_PER_NUMBER,
    )


def _model(
    config: Config, project: Project, backbone: Backbone | None, shape: tuple[int, int, int]
) -> tuple[nn.Module, int]:
    """The model that every image passes, and how many numbers are kept of each."""
    if backbone is not None and backbone.embedder is not None:
        return backbone.embedder, backbone.width(shape)
    n_classes = max(2, len(project.classes))
    with torch.random.fork_rng(devices=[]):
        model = (
            build(config.model.name, shape, n_classes) if backbone is None else backbone.pretrained.with_head(n_classes)
        )
    return model, sum(tap_widths(model, config.acquisition.taps, shape).values()) * PARTS_OF_DESCRIPTOR


def _reading(project: Project, pool: Listing, rows: list[int]) -> float:
    files = ListedFiles(
        bases=tuple(project.source("pool", root) for root in range(len(project.settings.pools))),
        roots=[pool.roots[row] for row in rows],
        names=[pool.paths[row] for row in rows],
        labels=torch.full((len(rows),), -1),
        classes=(),
    )
    began = time.perf_counter()
    for index in range(len(files)):
        try:
            decode(files.bytes_of(index), files.path(index))
        except CorruptImage:  # it changed since it was listed, which the next command says
            continue
    return time.perf_counter() - began
