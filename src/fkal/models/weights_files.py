"""Weights in files: read as tensors, never as programs, and known by a digest of their content."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fkal.errors import ConfigError, MissingWeights, first_line, shortened
from fkal.paths import at_home

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""What the file of a state dict ends with."""

LEARNED = (".weight", ".bias")
"""What the names of learned tensors end with; a mask may be infinite."""

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training programs keep the weights in what they save; the first one counts."""


def is_file(weights: str) -> bool:
    """Whether the setting names a file, and no published weights."""
    return weights.endswith(SUFFIXES)


def read_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        MissingWeights: There is no such file.
        ConfigError: It is no file of weights, or they are not finite, or integers. A pickle that would run code is no
            file of weights: nothing of it is run.
    """
    path = at_home(file)
    if not path.is_file():
        raise MissingWeights(f"model.weights = {shortened(file)}: there is no such file; put it there, or name another")
    try:
        held = load_file(path) if path.suffix == ".safetensors" else unpickled_tensors(path)
    except Exception as error:  # what torch.load raises for bytes of another kind has no common class
        refused = isinstance(error, pickle.UnpicklingError)  # torch's own text tells how to run the code after all
        reason = "it holds more than tensors, and reading that could run code" if refused else first_line(error)
        raise ConfigError(
            f"model.weights = {shortened(file)}: not a file of weights alone ({reason}); give a safetensors file or a "
            "state dict that torch.load reads with weights_only=True"
        ) from error
    return _state_dict(held, file)


def unpickled_tensors(source: Path | BytesIO) -> object:
    """What torch.load reads with weights_only=True; it raises for what would run code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on older protocols, of files that are then refused or read
        return torch.load(source, map_location="cpu", weights_only=True)


def _state_dict(held: object, file: str) -> dict[str, Tensor]:
    """Without the prefix that data-parallel training puts before each name."""
    inner = next((held[key] for key in NESTED if isinstance(held, dict) and isinstance(held.get(key), dict)), held)
    if not isinstance(inner, dict) or not inner or not all(isinstance(v, Tensor) for v in inner.values()):
        raise ConfigError(f"model.weights = {shortened(file)}: holds no state dict; give tensors by name")
    weights = {str(name).removeprefix("module."): value for name, value in inner.items()}
    for name, value in weights.items():
        reason = _odd(value) if name.endswith(LEARNED) else ""
        if reason:
            raise ConfigError(
                f"model.weights = {shortened(file)}: {shortened(name)} {reason}; give the weights as they were trained"
            )
    return weights


def _odd(value: Tensor) -> str:
    """What is wrong with a tensor as weights; nothing, for most."""
    if value.layout != torch.strided or value.is_meta:
        return "is no dense tensor"
    if value.dtype == torch.bool:  # a mask, as some attention layers call their bias
        return ""
    if not value.is_floating_point():
        return f"holds {value.dtype} and not floats"
    return "" if bool(value.float().isfinite().all()) else "has values that are not finite as float32"


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values: the same whatever kind of file they come from."""
    content = hashlib.sha256()
    for name in sorted(weights):
        content.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}\n".encode())
        content.update(weights[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()
