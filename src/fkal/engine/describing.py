"""Describing images by a model's tapped layers: features, loss gradients, and the labels behind these."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.descriptors import Descriptors, loss_gradient
from fkal.core.precision_names import Precision
from fkal.core.row_stream import PoolDescriptors, Rows, RowStream, StreamedDescriptors
from fkal.data.images import ImageSet
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.precision import computing
from fkal.engine.processes import ALONE, Processes
from fkal.engine.progress import Progress
from fkal.models.linear_head import LinearHead
from fkal.models.modes import evaluating
from fkal.models.settings import TokenRule
from fkal.models.taps import Taps, pooled_tap


@dataclass(frozen=True)
class Batch:
    """What a labeler sees of a batch of images: inputs, model outputs, standardised z, dataset indices."""

    x: Float[Tensor, "n c h w"]
    logits: Float[Tensor, "n d"]
    z: Descriptors
    indices: Int[Tensor, " n"]


Labeler = Callable[[Batch], Tensor]
"""The labels whose loss gives g."""


LabeledBy = Literal["arg_max", "true", "estimated"]
"""Whose labels a labeler returns: the model's, the dataset's, those of the pseudo-label that is set."""


@dataclass(frozen=True)
class Described:
    """What one pass over some images leaves: descriptors, arg max, the labels behind g, and logits if asked for.

    Descriptors that memory shall not hold are streamed.
    """

    descriptors: PoolDescriptors
    y_hat: Int[Tensor, " n"]
    y: Int[Tensor, " n"]
    logits: Float[Tensor, "n d"] | None = None

    @property
    def in_memory(self) -> Descriptors:
        """The descriptors, which are those of images that nothing streams: validation images, labeled ones, a batch."""
        assert isinstance(self.descriptors, Descriptors)
        return self.descriptors

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By names that `of` reads: `z.conv1`, `g.conv1`, `y_hat`, `y`, `logits`."""
        z = {f"z.{tap}": block for tap, block in self.in_memory.z.items()}
        g = {f"g.{tap}": block for tap, block in self.in_memory.g.items()}
        logits = {} if self.logits is None else {"logits": self.logits}
        return {**z, **g, "y_hat": self.y_hat, "y": self.y, **logits}

    @staticmethod
    def of(rows: Mapping[str, Rows]) -> "Described":
        whole = {name: block for name, block in rows.items() if isinstance(block, Tensor)}
        z, g = ({n[2:]: block for n, block in rows.items() if n.startswith(kind)} for kind in ("z.", "g."))
        is_streamed = any(isinstance(block, RowStream) for block in (*z.values(), *g.values()))
        descriptors = StreamedDescriptors(z, g) if is_streamed else Described._in_memory(whole)
        return Described(descriptors, whole["y_hat"], whole["y"], whole.get("logits"))

    @staticmethod
    def _in_memory(tensors: Mapping[str, Tensor]) -> Descriptors:
        z, g = ({n[2:]: block for n, block in tensors.items() if n.startswith(kind)} for kind in ("z.", "g."))
        return Descriptors(z, g)


What = Literal["z", "z and g", "z and logits", "z, g and logits", "features"]

KEPT: Mapping[tuple[bool, bool], What] = MappingProxyType(
    {
        (False, False): "z",
        (True, False): "z and g",
        (False, True): "z and logits",
        (True, True): "z, g and logits",
    }
)
"""What is described with or without gradients, with or without logits."""

FLOAT16_SCALES = (4096.0, 256.0, 16.0, 1.0)
"""Of the gradient at the logits, whose largest entry is 1, in float16: the first under which no number overflows."""

SHARD_ROWS = 1 << 16
"""Rows that a cache keeps together, about."""


class DescriptorKey(NamedTuple):
    """What rows are described: of which images, by which taps, in which batches, what, under whose labels, how pooled.

    With a `shard` the rows are a part of those of the indices: whole batches, so that none is made up in another way.
    """

    indices: Int[Tensor, " n"]
    taps: tuple[str, ...]
    batch_size: int
    what: What
    labels: LabeledBy
    grid: int
    shard: int | None = None

    @property
    def shards(self) -> "list[DescriptorKey]":
        """The keys of all parts, in the order of their rows."""
        return [self._replace(shard=place) for place in range(-(-len(self.indices) // self._shard_rows))]

    @property
    def first(self) -> int:
        """The place of the first row among the indices."""
        return (self.shard or 0) * self._shard_rows

    @property
    def rows(self) -> Int[Tensor, " r"]:
        """The indices of these rows."""
        return self.indices if self.shard is None else self.indices[self.first : self.first + self._shard_rows]

    @property
    def _shard_rows(self) -> int:
        return max(1, SHARD_ROWS // self.batch_size) * self.batch_size


@runtime_checkable
class DescriptorCache(Protocol):
    """Rows by their key, kept from one run to the next: named tensors with a row per index, but `passes`."""

    def keeps(self, key: DescriptorKey) -> bool:
        """Whether rows of this key are read and written at all."""
        ...

    def parts(self, key: DescriptorKey) -> Generator[Progress, None, Sequence[DescriptorKey]]:
        """The shards to go through, in the order of their rows; those that others make are there by then."""
        ...

    def lock(self, key: DescriptorKey) -> AbstractContextManager[None]:
        """Held while the rows of one shard are looked for and made, so that two processes make them once."""
        ...

    def read(self, key: DescriptorKey) -> dict[str, Tensor] | None:
        """The rows of a shard on the CPU; None where there are none."""
        ...

    def write(self, key: DescriptorKey, rows: Mapping[str, Tensor]) -> None: ...


Made = Generator[Progress, None, dict[str, Rows]]


@dataclass(frozen=True)
class Describer:
    """Describes images by a model's tapped layers, a batch of `batch_size` at a time.

    Feature maps are averaged in `grid` x `grid` fields, and a transformer's tokens by the rule `tokens`. Rows that the
    `cache` had kept count the passes that once made them. Descriptors and features beyond the `bound` are streamed.
    Passes compute in the `precision`; rows are float32.

    Several processes share the batches. All of them have the rows, or, unless these go `to_all`, the first one alone;
    the others then have none.
    """

    model: nn.Module
    images: ImageSet
    taps: tuple[str, ...]
    batch_size: int
    meter: Meter
    cache: DescriptorCache | None = None
    grid: int = 1
    tokens: TokenRule | None = None
    bound: MemoryBound = UNBOUNDED
    precision: Precision | None = None
    processes: Processes = ALONE
    to_all: bool = True

    def describe(
        self,
        indices: Int[Tensor, " n"],
        labeler: Labeler,
        *,
        labels: LabeledBy,
        with_grad: bool,
        what: str,
        with_logits: bool = False,
    ) -> Generator[Progress, None, Described]:
        """z, and g and logits if asked for, of the images in one forward and, for g, one backward pass each.

        g is the gradient of each image's own cross-entropy under the labels that `labeler`
        returns, with respect to the tapped tensors, pooled like z (section 3.2); its length is lost
        in standardising.
        """
        key = DescriptorKey(indices, self.taps, self.batch_size, KEPT[with_grad, with_logits], labels, self.grid)

        def of_batch(batch: Tensor, x: Tensor) -> dict[str, Tensor]:
            described = self._describe_batch(batch, x, labeler, with_grad)
            return (described if with_logits else replace(described, logits=None)).tensors

        return Described.of((yield from self._counted(key, of_batch, f"descriptors of {what}")))

    def features(self, indices: Int[Tensor, " n"], *, what: str) -> Generator[Progress, None, Rows]:
        """Pooled features of all taps side by side, not standardised, in one forward pass each."""
        key = DescriptorKey(indices, self.taps, self.batch_size, "features", "arg_max", self.grid)
        return (yield from self._counted(key, self._features_of_batch, f"features of {what}"))["features"]

    def _counted(self, key: DescriptorKey, of_batch: "OfBatch", what: str) -> Made:
        before = self.meter.passes
        tensors = yield from self._kept_or_made(key, of_batch, what)
        forward, backward = tensors.pop(PASSES)[:].sum(dim=0).tolist()
        now = self.meter.passes
        self.meter.forward(forward - (now[0] - before[0]))
        self.meter.backward(backward - (now[1] - before[1]))
        return tensors

    def _kept_or_made(self, key: DescriptorKey, of_batch: "OfBatch", what: str) -> Made:
        cache, gathered = self.cache, Gathered(len(key.indices), self.meter.device, self.bound)
        leads = self.processes.leads
        if cache is None or not self.processes.from_first(leads and cache.keeps(key)):
            yield from self._make(of_batch, what, key, gathered)
            return gathered.rows
        for shard in (yield from cache.parts(key)):
            with cache.lock(shard) if leads else nullcontext():
                rows = self._kept(cache, shard)
                if rows is None:
                    made = Gathered(len(shard.rows), self.meter.device)
                    yield from self._make(of_batch, what, shard, made)
                    rows = made.tensors
                    if leads:
                        cache.write(shard, rows)
            gathered.add({name: block.to(self.meter.device) for name, block in rows.items()})
        return gathered.rows

    def _kept(self, cache: DescriptorCache, shard: DescriptorKey) -> dict[str, Tensor] | None:
        """As the first process reads them; the others get all of them or none, as they do of those that are made."""
        rows = cache.read(shard) if self.processes.leads else None
        sent = rows if rows is None or self.to_all else {name: block[:0] for name, block in rows.items()}
        received = self.processes.from_first(sent)
        return rows if self.processes.leads else received

    def _make(
        self, of_batch: "OfBatch", what: str, key: DescriptorKey, gathered: "Gathered"
    ) -> Generator[Progress, None, None]:
        before, total = self.meter.passes, -(-len(key.indices) // self.batch_size)
        batches, done = key.rows.split(self.batch_size), key.first // self.batch_size
        own, device = self.processes.own(batches), self.meter.device
        with evaluating(self.model):
            stream = self.images.batches(own, device=device)
            made = (of_batch(batch, x) for batch, x in zip(own, stream, strict=True))
            for turn in self.processes.in_order(len(batches), made, to_all=self.to_all, device=device):
                for part in turn:
                    gathered.add(part)
                    done += 1
                yield Progress(what, done, total, "batches")
        passes = [[now - then for now, then in zip(self.meter.passes, before, strict=True)]]
        gathered.add({PASSES: self.processes.summed(torch.tensor(passes))})
        gathered.receive_names(self.processes)

    def _features_of_batch(self, batch: Tensor, x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), Taps(self.model, self.taps) as taps, self._computing:
            self.model(x)
        self.meter.forward(len(x))
        return {"features": torch.cat([self._pooled(taps.outputs[tap]) for tap in self.taps], dim=1)}

    def _describe_batch(self, batch: Tensor, x: Tensor, labeler: Labeler, with_grad: bool) -> Described:
        differentiates = with_grad and not isinstance(self.model, LinearHead)
        with (
            torch.set_grad_enabled(differentiates),
            Taps(self.model, self.taps, with_grad=differentiates) as taps,
            self._computing,
        ):
            logits = self.model(x)
        self.meter.forward(len(x))
        outputs = {tap: taps.outputs[tap] for tap in self.taps}
        z = {tap: self._pooled(output.detach()) for tap, output in outputs.items()}
        descriptors = Descriptors.of(z)
        shown = logits.detach().float()
        y = labeler(Batch(x, shown, descriptors, batch))
        if with_grad:
            g = self._gradients(logits, outputs, loss_gradient(shown, y))
            self.meter.backward(len(x))
            descriptors = Descriptors.of(z, g)
        return Described(descriptors, shown.argmax(dim=1), y, shown)

    def _gradients(
        self, logits: Float[Tensor, "n d"], outputs: Mapping[str, Tensor], at_logits: Float[Tensor, "n d"]
    ) -> dict[str, Tensor]:
        """At the tapped tensors; of a head on embeddings at its logits, where they are p - y."""
        if isinstance(self.model, LinearHead):
            return dict.fromkeys(outputs, at_logits)
        with self._computing:
            gradients = _scaled_gradients(logits, list(outputs.values()), at_logits)
        return {tap: self._pooled(grad) for tap, grad in zip(outputs, gradients, strict=True)}

    @property
    def _computing(self) -> AbstractContextManager[None]:
        return computing(self.precision, self.meter.device)

    def _pooled(self, output: Tensor) -> Float[Tensor, "n l"]:
        return pooled_tap(self.model, output.float(), grid=self.grid, tokens=self.tokens)


def _scaled_gradients(
    logits: Float[Tensor, "n d"], at: Sequence[Tensor], at_logits: Float[Tensor, "n d"]
) -> tuple[Tensor, ...]:
    """Of float16, whose small numbers would be lost, from as large a start as they allow; only directions count."""
    if logits.dtype != torch.float16:
        return torch.autograd.grad(logits, at, at_logits.to(logits))
    for scale in FLOAT16_SCALES:
        gradients = torch.autograd.grad(logits, at, (scale * at_logits).to(logits), retain_graph=scale > 1)
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            break
    return gradients


OfBatch = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Of the indices of a batch and its images, the rows."""


PASSES = "passes"
"""How many passes made the rows of a shard: the one name without a row per index."""

WIDE = ("z.", "g.", "features")
"""How names of rows begin that are as wide as descriptors are; the others stay in memory."""


@dataclass
class Gathered:
    """Named rows of `n` images on their way, part by part; wide ones beyond the bound go where that has them."""

    n: int
    device: torch.device
    bound: MemoryBound = UNBOUNDED
    _parts: dict[str, list[Tensor]] = field(default_factory=dict)
    _mapped: dict[str, Tensor] = field(default_factory=dict)
    _filled: dict[str, int] = field(default_factory=dict)

    def add(self, part: Mapping[str, Tensor]) -> None:
        """The next rows of these names."""
        for name, block in part.items():
            if name.startswith(WIDE) and self.bound.is_exceeded((self.n, block.shape[1]), block.dtype):
                self._write(name, block)
            else:
                self._parts.setdefault(name, []).append(block)

    def receive_names(self, processes: Processes) -> None:
        """Names without a row here get none, as wide as the first process has them."""
        for name, none in processes.from_first(self._without_rows if processes.leads else {}).items():
            if name not in self._parts and name not in self._mapped:
                self._parts[name] = [none.to(self.device)]

    @property
    def _without_rows(self) -> dict[str, Tensor]:
        kept = {name: blocks[0] for name, blocks in self._parts.items()} | self._mapped
        return {name: block[:0].cpu().clone() for name, block in kept.items()}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those in memory."""
        return {name: torch.cat(blocks) for name, blocks in self._parts.items()}

    @property
    def rows(self) -> dict[str, Rows]:
        """All of them."""
        return {**self.tensors, **{name: self.bound.read(rows, self.device) for name, rows in self._mapped.items()}}

    def _write(self, name: str, block: Tensor) -> None:
        if name not in self._mapped:
            self._mapped[name] = self.bound.empty((self.n, block.shape[1]), block.dtype)
        first = self._filled.get(name, 0)
        self._mapped[name][first : first + len(block)] = block.cpu()
        self._filled[name] = first + len(block)
