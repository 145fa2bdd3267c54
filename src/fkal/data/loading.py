"""Work done by worker processes or by threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import DataLoader

T = TypeVar("T")

ITEMS_A_JOB = 256  # one job an item would cost more than a small file's hash


@runtime_checkable
class Answers(Protocol):
    """Picklable; the answer to one request."""

    def __getitem__(self, request: Any) -> Any: ...


def in_processes(
    answers: Answers, requests: Iterable[Any], *, workers: int, pin_memory: bool = False, stay: bool = False
) -> DataLoader[Any]:
    """answers[request] for each request, in order, a few ahead; torch's loader without its batching.

    Where the workers `stay`, they are there for the next pass over the same loader.
    """
    return DataLoader(
        answers,  # type: ignore[arg-type]  # a Dataset by what it does
        sampler=requests,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=stay and workers > 0,
        generator=torch.Generator(),  # else the loader draws from torch's global one
    )


class StayingWorkers:
    """Worker processes that start at the first request and stay as long as this object: an epoch starts none."""

    def __init__(self, answers: Answers, *, workers: int) -> None:
        self._answers, self._workers = answers, workers
        self._asked = _Asked()
        self._loaders: dict[bool, DataLoader[Any]] = {}
        self._is_busy = False

    def answers(self, requests: Iterable[Any], *, pin_memory: bool = False) -> Iterator[Any]:
        """What `in_processes` gives. A pass that begins within another one has workers of its own."""
        if self._is_busy:
            yield from in_processes(self._answers, requests, workers=self._workers, pin_memory=pin_memory)
            return
        self._is_busy = True
        try:
            self._asked.requests = requests
            yield from self._loader(pin_memory)
        finally:
            self._is_busy = False

    def _loader(self, pin_memory: bool) -> DataLoader[Any]:
        if pin_memory not in self._loaders:
            self._loaders[pin_memory] = in_processes(
                self._answers, self._asked, workers=self._workers, pin_memory=pin_memory, stay=True
            )
        return self._loaders[pin_memory]


@dataclass
class _Asked:
    """The requests of the pass that has the workers."""

    requests: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.requests)


def in_threads(work: Callable[[int], T], n: int, workers: int) -> list[T]:
    """work(0) ... work(n-1), in order."""
    jobs = [range(start, min(start + ITEMS_A_JOB, n)) for start in range(0, n, ITEMS_A_JOB)]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as threads:
        done = threads.map(lambda job: [work(index) for index in job], jobs)
        return list(chain.from_iterable(done))


def _as_it_is(answer: Any) -> Any:
    return answer
