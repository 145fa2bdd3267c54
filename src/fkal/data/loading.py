"""Work done by worker processes or by threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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
    answers: Answers, requests: Iterable[Any], *, workers: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """answers[request] for each request, in order, a few ahead; torch's loader without its batching."""
    return DataLoader(
        answers,  # type: ignore[arg-type]  # a Dataset by what it does
        sampler=requests,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else the loader draws from torch's global one
    )


def in_threads(work: Callable[[int], T], n: int, workers: int) -> list[T]:
    """work(0) ... work(n-1), in order."""
    jobs = [range(start, min(start + ITEMS_A_JOB, n)) for start in range(0, n, ITEMS_A_JOB)]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as threads:
        done = threads.map(lambda job: [work(index) for index in job], jobs)
        return list(chain.from_iterable(done))


def _as_it_is(answer: Any) -> Any:
    return answer
