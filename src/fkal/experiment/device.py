"""The device that an experiment computes on, and torch set up so that it gives the same numbers again."""

import os

import torch

from fkal.config.schema import ConfigError


def device_named(name: str) -> torch.device:
    """The device of this name; `auto` is the first accelerator, else the CPU."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no CUDA device; set device=cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device = {name!r}: there are {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"device = {name!r}: torch sees no MPS device; set device=cpu or auto")
    return device


def deterministic(threads: int | None) -> None:
    """Set torch up so that the same seed gives the same numbers on the same machine."""
    set_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
