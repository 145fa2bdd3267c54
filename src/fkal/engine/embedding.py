"""Embedding: each image passes a frozen backbone once, whatever the round, the seed and the split."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from fkal.core.standardising import Standardising
from fkal.data.images import Identified, ImageSet
from fkal.data.vectors import VectorSet
from fkal.engine.embedded_images import EmbeddedImages
from fkal.engine.loop import Problem
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.models.modes import evaluating

BATCHES = {"cpu": 64}
"""Images embedded at once, by type of device; elsewhere OTHER_BATCHES. A CPU's caches hold few feature maps."""

OTHER_BATCHES = 256

KEPT_ROWS = 1 << 13
"""Embeddings that are written together."""

KEPT_SECONDS = 60.0
"""Embeddings are written sooner where they take longer than this: so much of the work a kill can lose."""


@runtime_checkable
class EmbeddingCache(Protocol):
    """Embeddings by the content of their images, kept from one run to the next."""

    def lock(self) -> AbstractContextManager[None]:
        """Held while embeddings are looked for and made, so that two processes make them once."""
        ...

    def read(self, ids: UInt8[Tensor, "n 16"]) -> tuple[Tensor, Tensor]:
        """Which of the ids have an embedding, and the embeddings of those, in the order of the ids."""
        ...

    def write(self, ids: UInt8[Tensor, "n 16"], rows: Float[Tensor, "n l"]) -> None: ...


@dataclass(frozen=True)
class Embedding:
    """Embeds images by a frozen model and counts each image as one forward pass.

    Images whose embedding the `cache` had kept count, too. All batches have the same size, the last one being filled
    up with its last image: an embedding then does not depend on what else was asked for.
    """

    model: nn.Module | None
    meter: Meter
    cache: EmbeddingCache | None = None

    def rows(
        self, images: ImageSet, indices: Int[Tensor, " n"], *, what: str
    ) -> Generator[Progress, None, Float[Tensor, "n l"]]:
        """One row per index, on the CPU. Own embeddings are there already and pass nothing."""
        if isinstance(images, VectorSet):
            return images.rows(indices)
        self.meter.forward(len(indices))
        if self.cache is None or not isinstance(images, Identified):
            return (yield from self._made(images, indices, what))
        ids = images.content_ids(indices)
        with self.cache.lock():
            is_known, known = self.cache.read(ids)
            if bool(is_known.all()):
                return known
            missing = indices[~is_known]
            made = yield from self._made(images, missing, what, _Keeping(self.cache, ids[~is_known]))
        return _merged(is_known, known, made)

    def _made(
        self, images: ImageSet, indices: Int[Tensor, " n"], what: str, keeping: _Keeping | None = None
    ) -> Generator[Progress, None, Float[Tensor, "n l"]]:
        assert self.model is not None, "images need a backbone"
        parts: list[Tensor] = []
        done = 0
        batches = _filled_up(indices, BATCHES.get(self.meter.device.type, OTHER_BATCHES))
        self.model.to(self.meter.device)
        try:
            with evaluating(self.model), torch.no_grad():
                for x in images.batches(batches, device=self.meter.device):
                    rows = self.model(x.contiguous(memory_format=torch.channels_last)).float().cpu()
                    parts.append(rows[: len(indices) - done])
                    done += len(parts[-1])
                    if keeping is not None:
                        keeping.add(parts[-1])
                    yield Progress(f"embedding {what}", done, len(indices), "images")
        finally:
            if keeping is not None:
                keeping.write()
        return torch.cat(parts)


@dataclass
class _Keeping:
    """Embeddings on their way to the cache, in the order of `ids`."""

    cache: EmbeddingCache
    ids: UInt8[Tensor, "n 16"]
    clock: Callable[[], float] = time.monotonic
    _rows: list[Tensor] = field(default_factory=list)
    _written: int = 0
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def add(self, rows: Float[Tensor, "b l"]) -> None:
        self._rows.append(rows)
        if sum(map(len, self._rows)) >= KEPT_ROWS or self.clock() - self._since >= KEPT_SECONDS:
            self.write()

    def write(self) -> None:
        """Those that were added since it was last called."""
        if self._rows:
            rows = torch.cat(self._rows)
            self.cache.write(self.ids[self._written : self._written + len(rows)], rows)
            self._written += len(rows)
        self._rows.clear()
        self._since = self.clock()


@dataclass(frozen=True)
class Embedded:
    """A problem whose images are embeddings, the map that they went through, and what making them took."""

    problem: Problem
    standardising: Standardising
    ahead: Meter


def embedded_problem(problem: Problem, embedding: Embedding, pca: int | None) -> Generator[Progress, None, Embedded]:
    """Each image by its embedding, standardised by those of pool and validation images, which see no label."""
    meter = embedding.meter
    known = torch.cat([problem.pool, problem.validation])
    with meter.phase("descriptors"):
        rows = yield from embedding.rows(problem.train, known, what="pool and validation")
        standardising = Standardising.fitted(rows, pca)
        train = EmbeddedImages(problem.train, known, standardising(rows))
    with meter.phase("evaluate"):
        rows = yield from embedding.rows(problem.test_images, problem.test, what=problem.measured)
        test = EmbeddedImages(problem.test_images, problem.test, standardising(rows))
    return Embedded(replace(problem, train=train, test_images=test), standardising, meter)


def components(width: int, pool: int, pca: int | None) -> int:
    """Features that are left of an embedding of this width; a pool of few images has fewer components."""
    return width if pca is None else min(width, pool, pca)


def _filled_up(indices: Int[Tensor, " n"], size: int) -> list[Int[Tensor, " b"]]:
    missing = -len(indices) % size
    return list(torch.cat([indices, indices[-1:].expand(missing)]).split(size))


def _merged(is_known: Tensor, known: Tensor, made: Float[Tensor, "m l"]) -> Float[Tensor, "n l"]:
    rows = torch.empty(len(is_known), made.shape[1])
    if len(known):
        rows[is_known] = known
    rows[~is_known] = made
    return rows
