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

from fkal.core.precision_names import Precision
from fkal.core.row_stream import ROWS_AT_ONCE
from fkal.core.standardising import Standardising
from fkal.data.images import Identified, ImageSet
from fkal.data.vectors import VectorSet
from fkal.engine.compiling import compiled
from fkal.engine.embedded_images import EmbeddedImages
from fkal.engine.loop import Problem
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.precision import computing
from fkal.engine.processes import ALONE, Processes
from fkal.engine.progress import Progress
from fkal.models.modes import evaluating

BATCHES = {"cpu": 64}
"""Images embedded at once, by type of device; elsewhere OTHER_BATCHES. A CPU's caches hold few feature maps."""

OTHER_BATCHES = 256

KEPT_ROWS = 1 << 13
"""Embeddings that are written together."""

KEPT_SECONDS = 60.0
"""Embeddings are written sooner where they take longer than this: so much of the work a kill can lose."""


MakeRows = Callable[[int], Tensor]
"""The width of embeddings to rows that are to be filled, one for each image."""


@runtime_checkable
class EmbeddingCache(Protocol):
    """Embeddings by the content of their images, kept from one run to the next."""

    def lock(self) -> AbstractContextManager[None]:
        """Held while embeddings are looked for and made, so that two processes make them once."""
        ...

    def read(self, ids: UInt8[Tensor, "n 16"], rows: MakeRows) -> tuple[Tensor, Tensor]:
        """Which of the ids have an embedding; and rows in the order of the ids, with the embeddings of those.

        `rows` makes them, of a given width; where no id has an embedding, it is not called and there are none.
        """
        ...

    @property
    def next_number(self) -> int:
        """The number of the file that is written next."""
        ...

    def write(self, ids: UInt8[Tensor, "n 16"], rows: Float[Tensor, "n l"], number: int | None = None) -> None:
        """Keep them in a file of their own, the next one or that of the number."""
        ...


MadeElsewhere = Callable[[ImageSet, Tensor, int], Generator[Progress, None, None]]
"""Embeds images of these indices and keeps them in files from this number on, KEPT_ROWS in each."""


@dataclass(frozen=True)
class Embedding:
    """Embeds images by a frozen model and counts each image as one forward pass.

    Images whose embedding the `cache` had kept count, too. All batches have the same size, the last one being filled
    up with its last image: an embedding then does not depend on what else was asked for. Embeddings beyond the `bound`
    of memory are mapped from a file. Those that the cache lacks are made `elsewhere`, where there is such a place.
    Passes compute in the `precision`; embeddings are float32. With `compiles` images pass a program of the model.

    Several processes share the batches. The first one reads and writes what is kept and has the rows.
    """

    model: nn.Module | None
    meter: Meter
    cache: EmbeddingCache | None = None
    bound: MemoryBound = UNBOUNDED
    precision: Precision | None = None
    compiles: bool = False
    elsewhere: MadeElsewhere | None = None
    processes: Processes = ALONE

    def rows(
        self, images: ImageSet, indices: Int[Tensor, " n"], *, what: str
    ) -> Generator[Progress, None, Float[Tensor, "n l"]]:
        """One row per index, on the CPU. Own embeddings are there already and pass nothing.

        Other processes than the first one have none.
        """
        if isinstance(images, VectorSet):
            return images.rows(indices)
        if not self.processes.leads:
            yield from self._share(images, indices, what)
            return torch.empty(0, 0)
        self.meter.forward(len(indices))
        target = _Target(len(indices), self.bound)
        if self.cache is None or not isinstance(images, Identified):
            places = self.processes.from_first(torch.arange(len(indices)))
            yield from self._make(images, indices, what, target, places)
            return target.rows
        ids = images.content_ids(indices)
        with self.cache.lock():
            missing = _missing(self.cache, ids, target)
            if len(missing) and self.elsewhere is not None:
                yield from self.elsewhere(images, indices[missing], self.cache.next_number)
                missing = _missing(self.cache, ids, target)
            missing = self.processes.from_first(missing)
            if len(missing):
                keeping = _Keeping(self.cache, ids[missing])
                yield from self._make(images, indices[missing], what, target, missing, keeping)
        return target.rows

    def keep(self, images: ImageSet, indices: Int[Tensor, " n"], number: int) -> Generator[Progress, None, None]:
        """Embed these images and keep them as the cache's file of this number. Whoever calls it holds the lock."""
        assert self.cache is not None and isinstance(images, Identified)
        target = _Target(len(indices), UNBOUNDED)
        yield from self._make(images, indices, "images", target, torch.arange(len(indices)))
        self.cache.write(images.content_ids(indices), target.rows, number)

    def _share(self, images: ImageSet, indices: Int[Tensor, " n"], what: str) -> Generator[Progress, None, None]:
        """What another process than the first one does: its batches of the images that the first one lacks."""
        missing = self.processes.from_first(torch.empty(0, dtype=torch.long))
        if len(missing):
            target = _Target(len(indices), self.bound)
            yield from self._make(images, indices[missing], what, target, missing)

    def _make(
        self,
        images: ImageSet,
        indices: Int[Tensor, " n"],
        what: str,
        target: _Target,
        places: Int[Tensor, " n"],
        keeping: _Keeping | None = None,
    ) -> Generator[Progress, None, None]:
        """The embeddings of the indices, written to these places of the target."""
        assert self.model is not None, "images need a backbone"
        done = 0
        batches = _filled_up(indices, BATCHES.get(self.meter.device.type, OTHER_BATCHES))
        network = compiled(self.model.to(self.meter.device), compiles=self.compiles)
        try:
            with evaluating(self.model), torch.no_grad():
                own = images.batches(self.processes.own(batches), device=self.meter.device)
                made = (self._embed(network, x) for x in own)
                for turn in self.processes.in_order(len(batches), made, to_all=False, device=torch.device("cpu")):
                    for part in turn:
                        rows = part["rows"][: len(indices) - done]
                        target.of_width(rows.shape[1])[places[done : done + len(rows)]] = rows
                        done += len(rows)
                        if keeping is not None:
                            keeping.add(rows)
                    yield Progress(f"embedding {what}", done, len(indices), "images")
        finally:
            if keeping is not None:
                keeping.write()

    def _embed(self, network: nn.Module, x: Tensor) -> dict[str, Tensor]:
        with computing(self.precision, self.meter.device):
            embedded = network(x.contiguous(memory_format=torch.channels_last))
        return {"rows": embedded.float().cpu()}


def _missing(cache: EmbeddingCache, ids: UInt8[Tensor, "n 16"], target: _Target) -> Int[Tensor, " m"]:
    """Places of the ids that the cache lacks; the rows of the others are in the target."""
    is_known, _ = cache.read(ids, target.of_width)
    return (~is_known).nonzero()[:, 0]


@dataclass
class _Target:
    """Rows of n images, made when their width is known."""

    n: int
    bound: MemoryBound
    _rows: Tensor | None = None

    def of_width(self, width: int) -> Float[Tensor, "n l"]:
        if self._rows is None:
            self._rows = self.bound.empty((self.n, width), torch.float32)
        return self._rows

    @property
    def rows(self) -> Float[Tensor, "n l"]:
        return torch.empty(0, 0) if self._rows is None else self._rows


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
        train = EmbeddedImages(problem.train, known, _standard(standardising, rows, embedding.bound), embedding.bound)
    with meter.phase("evaluate"):
        rows = yield from embedding.rows(problem.test_images, problem.test, what=problem.measured)
        test = EmbeddedImages(
            problem.test_images, problem.test, _standard(standardising, rows, embedding.bound), embedding.bound
        )
    return Embedded(replace(problem, train=train, test_images=test), standardising, meter)


def components(width: int, pool: int, pca: int | None) -> int:
    """Features that are left of an embedding of this width; a pool of few images has fewer components."""
    return width if pca is None else min(width, pool, pca)


def _filled_up(indices: Int[Tensor, " n"], size: int) -> list[Int[Tensor, " b"]]:
    missing = -len(indices) % size
    return list(torch.cat([indices, indices[-1:].expand(missing)]).split(size))


def _standard(standardising: Standardising, rows: Float[Tensor, "n l"], bound: MemoryBound) -> Float[Tensor, "n k"]:
    """All rows at once where they fit, so that sums round as they always did; else block by block into a file."""
    if not bound.is_exceeded((rows.shape[0], rows.shape[1]), rows.dtype):
        return standardising(rows)
    width = len(standardising.mean) if standardising.components is None else standardising.components.shape[1]
    standard = bound.empty((len(rows), width), rows.dtype)
    for part, into in zip(rows.split(ROWS_AT_ONCE), standard.split(ROWS_AT_ONCE), strict=True):
        into.copy_(standardising(part))
    return standard
