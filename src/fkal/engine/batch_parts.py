"""The parts of a training batch: their gradients are summed in order, by one process or by one process per part.

So a batch in k parts gives the same weights in one process as in k processes: on CPUs to the bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Int
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel

from fkal.core.randomness import stream
from fkal.data.images import ImageSet
from fkal.engine.batch_statistics import SharedStatistics
from fkal.engine.processes import ALONE, FIRST, Processes, refuse_lost_process

Labeled = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of a part's images and its rows: the model's inputs, some per row, and their labels."""


class PartBatch(NamedTuple):
    """Inputs and labels of a part, the part's place, and its share of the batch."""

    x: Tensor
    y: Tensor
    place: int
    share: float


class StepBatch(NamedTuple):
    """The parts of one step that this process computes, and the number of inputs of all parts."""

    parts: list[PartBatch]
    n: int


class _Rows(NamedTuple):
    """The rows of a part. One that is empty has a row of another part, at no share."""

    rows: Tensor
    share: float


@dataclass(frozen=True)
class BatchParts:
    """Each training batch is divided into `count` parts.

    As many processes compute one part each. Any other number of processes compute all parts each, with the result of
    one process: they share no training then.
    """

    count: int = 1
    processes: Processes = ALONE

    @property
    def are_shared(self) -> bool:
        return self.count == self.processes.count > 1

    @property
    def mine(self) -> range:
        """The places of the parts that this process computes."""
        rank = self.processes.rank
        return range(rank, rank + 1) if self.are_shared else range(self.count)

    def steps(
        self,
        images: ImageSet,
        indices: Int[Tensor, " n"],
        batches: Sequence[Tensor],
        *,
        labeled: Labeled,
        augment: torch.Generator,
        device: torch.device,
    ) -> Iterator[StepBatch]:
        """This process's parts of each batch of rows, which are images by their place in `indices`.

        With several parts each has random views from a stream of its own, so that no part needs another one's draws.
        """
        divided = [self._divided(rows) for rows in batches]
        streams = [
            images.batches([indices[each[place].rows] for each in divided], device=device, augment=draws)
            for place, draws in zip(self.mine, self._draws(augment), strict=True)
        ]
        for whole, each, inputs in zip(batches, divided, zip(*streams, strict=True), strict=True):
            parts, per_row = [], 1
            for place, images_of_part in zip(self.mine, inputs, strict=True):
                rows, share = each[place]
                x, y = labeled(images_of_part, rows)
                per_row = len(y) // len(rows)
                parts.append(PartBatch(x, y, place, share))
            yield StepBatch(parts, len(whole) * per_row)

    def _divided(self, rows: Int[Tensor, " b"]) -> list[_Rows]:
        return [
            _Rows(part, len(part) / len(rows)) if len(part) else _Rows(rows[:1], 0.0)
            for part in rows.tensor_split(self.count)
        ]

    def _draws(self, augment: torch.Generator) -> list[torch.Generator]:
        if self.count == 1:
            return [augment]
        seed = int(torch.randint(2**62, (), generator=augment))
        return [stream(seed, "part", place) for place in self.mine]

    def seed(self, seed: int, step: int, place: int) -> None:
        """Sets torch's global generators before a part, for layers that draw; a whole batch goes on drawing."""
        if self.count > 1:
            torch.manual_seed(stream(seed, "step", step, place).initial_seed())

    def trained(self, model: nn.Module) -> nn.Module:
        """The model as training calls it: where parts are shared, its backward pass sums the gradients of all."""
        if not self.are_shared:
            return model
        with refuse_lost_process():
            distributed = DistributedDataParallel(model)
        distributed.register_comm_hook(self.processes, _sum_gradients)
        return distributed

    def statistics(self) -> AbstractContextManager[object]:
        """Within it, batch normalisation in training goes by the whole batch."""
        return SharedStatistics() if self.are_shared else nullcontext()

    def total(self, by_part: Tensor) -> Tensor:
        """The sum of what each part has, in their order; shared parts of other processes have 0 here."""
        whole = self.processes.summed(by_part) if self.are_shared else by_part
        return sum(whole[1:], start=whole[0])

    def agree(self, model: nn.Module) -> None:
        """Every process gets the first one's weights, should a GPU have rounded otherwise."""
        if self.processes.count == 1:
            return
        for value in model.state_dict().values():
            with refuse_lost_process():
                dist.broadcast(value, src=FIRST)


WHOLE = BatchParts()


def _sum_gradients(processes: Processes, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Sums in the order of ranks on a CPU; on GPUs as NCCL does, while the backward pass goes on.

    The loss of each process has its share of the batch as a factor, so nothing is divided here.
    """
    gradients = bucket.buffer()
    if gradients.device.type != "cpu":
        with refuse_lost_process():
            work = dist.all_reduce(gradients, async_op=True)
        assert work is not None
        return work.get_future().then(lambda done: done.value()[0])
    found = [torch.empty_like(gradients) for _ in range(processes.count)]
    with refuse_lost_process():
        dist.all_gather(found, gradients)
    total = found[0]
    for each in found[1:]:
        total += each
    summed: torch.futures.Future[Tensor] = torch.futures.Future()
    summed.set_result(total)
    return summed
