"""Tasks of a Ray cluster: how they are asked for, and what they return. No other module imports ray."""

import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from fkal.errors import MissingPackage, first_line

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read as it is imported

try:
    import ray as ray
    from ray._private.services import canonicalize_bootstrap_address as canonicalize_bootstrap_address
    from ray.exceptions import OutOfMemoryError
    from ray.exceptions import RayError as RayError
    from ray.util.queue import Queue as Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingPackage("--executor ray needs Ray; install it: pip install 'fkal[ray]'") from error

RETRIES = 3
"""So often a task is tried again whose worker was killed or whose machine is lost."""
AGAIN = "finished rounds are kept: the same command goes on"


class Need(NamedTuple):
    """What Ray reserves for a task."""

    cpus: int
    gpus: float


def remote(work: Callable[..., bytes], need: Need, name: str) -> Any:
    """The task, which is tried again where its worker is lost, and not where it fails."""
    return ray.remote(work).options(
        name=name, num_cpus=need.cpus, num_gpus=need.gpus, max_retries=RETRIES, retry_exceptions=False
    )


def result_of(task: "ray.ObjectRef[bytes]") -> Any:
    """What the task returned or failed of."""
    try:
        return pickle.loads(ray.get(task))
    except OutOfMemoryError:
        return RuntimeError(f"its machine ran out of memory, {RETRIES + 1} times; ask for more CPUs per run, {AGAIN}")
    except RayError as error:
        return RuntimeError(f"its worker was lost {RETRIES + 1} times ({first_line(error)}); {AGAIN}")
