"""A round whose training is not over: what it goes on from, so that hours of it are not lost with the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from fkal.engine.rounds import Request

Weights = Mapping[str, Tensor]


class FitState(NamedTuple):
    """What training draws and steps from after a whole epoch. Tensors on the CPU.

    `momentum` has the optimiser's buffers by the name of the parameter, `generator` is the state of the draws, and
    `scales` that of what scales a loss in float16, by torch's own names.
    """

    momentum: Weights
    generator: UInt8[Tensor, " s"]
    scales: Weights = MappingProxyType({})


@dataclass(frozen=True)
class Unfinished:
    """A round after some epochs of its training. Tensors on the CPU.

    `losses` has the epochs of the members whose training is over, and those of the one at work. The counts are those
    of the whole round so far.
    """

    request: Request
    losses: tuple[tuple[float, ...], ...]
    weights: Weights
    fit: FitState
    forward_images: Mapping[str, int]
    backward_images: Mapping[str, int]
    seconds: Mapping[str, float]


@runtime_checkable
class UnfinishedRounds(Protocol):
    """Keeps the last state of the round at work."""

    def read(self, b: int) -> Unfinished | None:
        """What is kept of round `b`; None where nothing is."""
        ...

    @property
    def wants(self) -> bool:
        """Whether enough time has passed for another state to be offered."""
        ...

    def offer(self, unfinished: Unfinished) -> None:
        """Keeps this state; whether it is written at once is the keeper's choice."""
        ...
