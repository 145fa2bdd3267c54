"""Outputs: logits of some images and the features that enter the last layer, in one forward pass each.

Features beyond a bound are streamed.
"""

from collections.abc import Callable, Generator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.evidence import Outputs, PoolOutputs, StreamedOutputs
from fkal.core.precision_names import Precision
from fkal.core.row_stream import RowStream
from fkal.data.images import ImageSet
from fkal.engine.describing import Gathered
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.precision import computing
from fkal.engine.processes import ALONE, Processes
from fkal.engine.progress import Progress
from fkal.models.head import HeadInput
from fkal.models.modes import evaluating


def outputs(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    batch_size: int,
    meter: Meter,
    what: str,
    precision: Precision | None = None,
    processes: Processes = ALONE,
) -> Generator[Progress, None, Outputs]:
    """In memory, of at least one image, `batch_size` at a time; all processes have them."""
    found = yield from pool_outputs(
        model,
        images,
        indices,
        batch_size=batch_size,
        meter=meter,
        what=what,
        bound=UNBOUNDED,
        precision=precision,
        processes=processes,
        to_all=True,
    )
    assert isinstance(found, Outputs)
    return found


def pool_outputs(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    batch_size: int,
    meter: Meter,
    what: str,
    bound: MemoryBound,
    precision: Precision | None = None,
    processes: Processes = ALONE,
    to_all: bool = False,
) -> Generator[Progress, None, PoolOutputs]:
    """The same with features beyond the bound streamed.

    Unless they go `to_all`, only the first of several processes has rows.
    """
    gathered = Gathered(len(indices), meter.device, bound)

    def of_batch(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), HeadInput(model) as caught, computing(precision, meter.device):
            made = model(x)
        assert caught.features is not None
        return {"logits": made.float(), "features": caught.features.float()}

    yield from _gather(
        of_batch,
        gathered,
        model=model,
        images=images,
        batches=indices.split(batch_size),
        meter=meter,
        what=what,
        processes=processes,
        to_all=to_all,
    )
    rows = gathered.rows
    if isinstance(rows["features"], RowStream):
        return StreamedOutputs(gathered.tensors["logits"], rows["features"])
    return Outputs(gathered.tensors["logits"], rows["features"])


def logits(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    batch_size: int,
    meter: Meter,
    what: str,
    precision: Precision | None = None,
    processes: Processes = ALONE,
    to_all: bool = False,
) -> Generator[Progress, None, Float[Tensor, "n d"]]:
    """The logits alone, without features, which a large pool has no memory for."""
    gathered = Gathered(len(indices), meter.device)

    def of_batch(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), computing(precision, meter.device):
            return {"logits": model(x).float()}

    yield from _gather(
        of_batch,
        gathered,
        model=model,
        images=images,
        batches=indices.split(batch_size),
        meter=meter,
        what=what,
        processes=processes,
        to_all=to_all,
    )
    return gathered.tensors["logits"]


def _gather(
    of_batch: Callable[[Tensor], dict[str, Tensor]],
    gathered: Gathered,
    *,
    model: nn.Module,
    images: ImageSet,
    batches: Sequence[Tensor],
    meter: Meter,
    what: str,
    processes: Processes,
    to_all: bool,
) -> Generator[Progress, None, None]:
    """One forward pass per image, the batches shared among the processes; counts those of all of them."""
    done = 0
    with evaluating(model):
        made = map(of_batch, images.batches(processes.own(batches), device=meter.device))
        for turn in processes.in_order(len(batches), made, to_all=to_all, device=meter.device):
            for part in turn:
                gathered.add(part)
            meter.forward(sum(map(len, batches[done : done + processes.count])))
            done = min(done + processes.count, len(batches))
            yield Progress(f"outputs of {what}", done, len(batches), "batches")
    gathered.receive_names(processes)
