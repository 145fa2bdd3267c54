"""The device, the threads and the determinism of an experiment: all that it sets of the process."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import torch

from fkal.config.schema import ConfigError
from fkal.engine.processes import current_processes
from fkal.launch import launch

Y = TypeVar("Y")
R = TypeVar("R")


def device_named(name: str) -> torch.device:
    """The device of this name; `auto` is the first accelerator, else the CPU."""
    device = torch.device(name) if name != "auto" else None
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    _refuse_for_several(device, name)
    if name == "auto":
        return device
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no CUDA device; set device=cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device = {name!r}: there are {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no MPS device; set device=cpu or auto")
    return device


def _refuse_for_several(device: torch.device, name: str) -> None:
    """Each of several processes has a GPU of its own, by its rank, or the CPU."""
    several = current_processes().count > 1
    if several and (device.type not in ("cpu", "cuda") or device.index is not None):
        raise ConfigError(f"device = {name!r}: under torchrun each process takes its own; set device=cuda or cpu")
    if several and device.type == "cuda" and launch().local_processes > torch.cuda.device_count():
        raise ConfigError(
            f"device = {name!r}: {launch().local_processes} processes and {torch.cuda.device_count()} CUDA devices; "
            "start one process for each device, or set device=cpu"
        )


@contextmanager
def reproducible(threads: int | None) -> Iterator[None]:
    """Set torch up so that the same seed gives the same numbers on the same machine; on leaving, as it was.

    `threads` share the sums on the CPU; None: as many as the process has.
    """
    before = torch.get_num_threads()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmarks = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)
        torch.use_deterministic_algorithms(is_deterministic, warn_only=only_warns)
        torch.backends.cudnn.benchmark = benchmarks


def reproducibly(threads: int | None, work: Generator[Y, None, R]) -> Generator[Y, None, R]:
    """Each step of the work in a `reproducible` process; between steps the process is as the caller has it.

    So work that is left half done, or done in turn with other work, sets nothing for others.
    """
    with closing(work):
        while True:
            with reproducible(threads):
                try:
                    step = next(work)
                except StopIteration as end:
                    result: R = end.value
                    return result
            yield step
