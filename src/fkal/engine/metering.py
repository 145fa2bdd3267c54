"""What a run costs: passes counted where they happen (or what stands for them does), and seconds, by phase."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Meter:
    """Counts images through forward and backward passes, and seconds, of the phase that is open.

    One that does not count passes is for a model that sees no image: the head of a frozen run, which reads embeddings.
    """

    device: torch.device
    forward_images: Counter[str] = field(default_factory=Counter)
    backward_images: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    counts: bool = True
    _phase: str = "setup"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer, self._phase = self._phase, name
        self._synchronize()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self._phase = outer

    @property
    def passes(self) -> tuple[int, int]:
        """Images forward and backward of the phase that is open."""
        return self.forward_images[self._phase], self.backward_images[self._phase]

    def forward(self, images: int) -> None:
        _count(self.forward_images, self._phase, images if self.counts else 0)

    def backward(self, images: int) -> None:
        _count(self.backward_images, self._phase, images if self.counts else 0)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _count(by_phase: Counter[str], phase: str, images: int) -> None:
    """A phase without passes of a direction has no entry there."""
    if images:
        by_phase[phase] += images
