"""The parts of one round's choice as tasks of a Ray cluster, which the task of the experiment asks for.

While that task waits, Ray gives its CPUs to others. A part's task is sent the rows of its candidates, and no others.
"""

import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from fkal.core.pool_parts import PoolPart, one_by_one
from fkal.experiment.device import reproducible
from fkal.runner import worker
from fkal.runner.ray_tasks import Need, RayError, ray, remote, result_of


@dataclass(frozen=True)
class RayParts:
    """Goes through parts on the cluster, with so many CPUs for each; what comes back is what `one_by_one` gives."""

    name: str
    cpus: int

    def __call__(self, work: Callable[[PoolPart], Any], parts: Sequence[PoolPart]) -> list[Any]:
        """Not all parts are in memory at once: there are as many tasks as the cluster has CPUs for.

        Raises what the work on a part raises, RuntimeError for a part whose worker was lost too often.
        """
        if len(parts) == 1:
            return one_by_one(work, parts)
        at_once = max(1, int(ray.cluster_resources().get("CPU", 1)) // self.cpus)
        task = remote(_work_on, Need(self.cpus, 0.0), f"{self.name} part of a choice")
        shared, threads = ray.put(work), torch.get_num_threads()
        pending: dict[ray.ObjectRef[bytes], int] = {}
        found: dict[int, Any] = {}
        try:
            for part in parts:
                if len(pending) == at_once:
                    _take_one(pending, found)
                pending[task.remote(shared, part.in_memory(), threads)] = part.number
            while pending:
                _take_one(pending, found)
        finally:
            with suppress(RayError):  # of a cluster that is gone, and its tasks with it
                for each in pending:
                    ray.cancel(each, force=True)
        return [found[part.number] for part in parts]


def _take_one(pending: "dict[ray.ObjectRef[bytes], int]", found: dict[int, Any]) -> None:
    """Waits for a part and keeps what was made of it."""
    (done, *_), _ = ray.wait(list(pending))
    result = result_of(done)
    number = pending.pop(done)
    if isinstance(result, Exception):
        raise result
    found[number] = result


def _work_on(work: Callable[[PoolPart], Any], part: PoolPart, threads: int) -> bytes:
    """In a worker of the cluster: what was made of the part, pickled, or what it failed of."""
    try:
        with reproducible(threads):
            return pickle.dumps(work(part))
    except Exception as error:
        return pickle.dumps(worker.portable(error))
