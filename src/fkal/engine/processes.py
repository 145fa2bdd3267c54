"""The processes that compute one run together, such as one for each GPU of a machine.

All of them run the same program on the same seeds. Each computes the passes of its own batches. The first one has the
rows of the whole pool, selects, and leaves rounds; the others have of the pool what they need to go on.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from fkal.errors import ProcessLost

T = TypeVar("T")
FIRST = 0
"""Rank of the process that leads."""


@dataclass(frozen=True)
class Processes:
    """This process, by its rank, among `count`; a process alone by default, which exchanges nothing."""

    rank: int = FIRST
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == FIRST

    def own(self, batches: Sequence[T]) -> Sequence[T]:
        """Those that this process computes: every `count`-th, so that a turn of all processes is in order."""
        return batches[self.rank :: self.count]

    def in_order(
        self, n: int, made: Iterator[Mapping[str, Tensor]], *, to_all: bool, device: torch.device
    ) -> Iterator[list[Mapping[str, Tensor]]]:
        """What is made of `n` batches, in the order of the batches, a turn of all processes at a time.

        `made` yields what this process makes of its own. The others get all of it too, or, unless it is `to_all`,
        nothing: so a pool is in the memory of one process.
        """
        for first in range(0, n, self.count):
            mine = next(made) if first + self.rank < n else None
            if self.count == 1:
                assert mine is not None
                yield [mine]
                continue
            turn = self._gathered(None if mine is None else {name: rows.cpu() for name, rows in mine.items()}, to_all)
            yield [{name: rows.to(device) for name, rows in part.items()} for part in turn if part is not None]
        assert next(made, None) is None  # and so whatever loads the batches comes to its end

    def _gathered(self, value: T | None, to_all: bool) -> list[T | None]:
        """The values of all processes by rank; unless they go `to_all`, they go to the first."""
        found: list[T | None] = [None] * self.count
        with refuse_lost_process():
            if to_all:
                dist.all_gather_object(found, value)
            else:
                dist.gather_object(value, found if self.leads else None, dst=FIRST)
        return found

    def from_first(self, value: T) -> T:
        """The first process's value, whatever the others gave. Tensors are on the CPU."""
        if self.count == 1:
            return value
        box = [value]
        with refuse_lost_process():
            dist.broadcast_object_list(box, src=FIRST, device=torch.device("cpu"))
        return box[0]

    def summed(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, in the order of their ranks; on the CPU, and the same in each process."""
        if self.count == 1:
            return numbers
        first, *others = self._gathered(numbers.cpu(), to_all=True)
        assert first is not None
        total = first.clone()
        for each in others:
            assert each is not None
            total += each
        return total


ALONE = Processes()


def current_processes() -> Processes:
    """Those that `torch.distributed` has joined in this process."""
    if not dist.is_initialized():
        return ALONE
    return Processes(dist.get_rank(), dist.get_world_size())


@contextmanager
def refuse_lost_process() -> Iterator[None]:
    """Raises ProcessLost where an exchange fails, because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "another process of this run has ended, so this one ends as well; "
            "the same command goes on from the last finished round"
        ) from error
