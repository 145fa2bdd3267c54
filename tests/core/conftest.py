"""Raw descriptors, and slow float64 versions of the paper's equations to hold against."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from fkal.core.descriptors import Descriptors

WIDTHS = {"conv1": 4, "conv2": 7, "fc1": 5}


class Raw(NamedTuple):
    """Pooled features and gradients before standardising: {tap: (n l_j)}."""

    z: dict[str, Tensor]
    g: dict[str, Tensor]

    def __getitem__(self, tap: str) -> tuple[Tensor, Tensor]:
        return self.z[tap], self.g[tap]

    @property
    def descriptors(self) -> Descriptors:
        return Descriptors.of(self.z, self.g)


class Paper:
    """Section 2 of the protocol, word by word."""

    @staticmethod
    def correlation(a: Tensor, b: Tensor) -> float:
        return float(np.corrcoef(a.double().numpy(), b.double().numpy())[0, 1])

    def r(self, targets: dict[str, Tensor], pool: dict[str, Tensor]) -> Tensor:
        """eq. 6: sum over taps of Pearson correlations."""
        m, n = (len(next(iter(blocks.values()))) for blocks in (targets, pool))
        matrix = torch.zeros(m, n, dtype=torch.float64)
        for t in range(m):
            for i in range(n):
                for tap in targets:
                    matrix[t, i] += self.correlation(targets[tap][t], pool[tap][i])
        return matrix

    def r_zg(self, combine: str, targets: Raw, pool: Raw) -> Tensor:
        """eq. 12 in its three readings."""
        match combine:
            case "product":
                taps = [
                    self.r({tap: targets.z[tap]}, {tap: pool.z[tap]})
                    * self.r({tap: targets.g[tap]}, {tap: pool.g[tap]})
                    for tap in targets.z
                ]
                return torch.stack(taps).sum(dim=0)
            case "product_of_sums":
                return self.r(targets.z, pool.z) * self.r(targets.g, pool.g)
            case "sum":
                return self.r(targets.z, pool.z) + self.r(targets.g, pool.g)
        raise AssertionError(combine)

    @staticmethod
    def best_first(scores: list[float]) -> list[int]:
        """Positions by falling score; of equals the smaller position."""
        return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


@pytest.fixture(scope="session")
def paper() -> Paper:
    return Paper()


@pytest.fixture(scope="session")
def raw() -> Callable[..., Raw]:
    def make(n: int, *, seed: int) -> Raw:
        draws = torch.Generator().manual_seed(seed)
        z = {tap: torch.rand(n, width, generator=draws) for tap, width in WIDTHS.items()}
        g = {tap: 1e-3 * torch.randn(n, width, generator=draws) for tap, width in WIDTHS.items()}
        return Raw(z, g)

    return make


@pytest.fixture(scope="session")
def whole() -> Callable[..., Descriptors]:
    """Descriptors of small whole numbers: dot products are exact in float32, and ties abound."""

    def make(n: int, *, seed: int, width: int = 2, largest: int = 1) -> Descriptors:
        draws = torch.Generator().manual_seed(seed)
        z, g = ({"fc": torch.randint(-largest, largest + 1, (n, width), generator=draws).float()} for _ in range(2))
        return Descriptors(z, g)

    return make


class Table:
    """A kernel that looks its values up, so that scores are exactly what a test says."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.shapes: list[tuple[int, int]] = []

    @property
    def targets(self) -> Descriptors:
        return Descriptors({"row": torch.arange(self.scores.shape[0]).float()[:, None]})

    @property
    def pool(self) -> Descriptors:
        return Descriptors({"row": torch.arange(self.scores.shape[1]).float()[:, None]})

    def __call__(self, targets: Descriptors, pool: Descriptors) -> Tensor:
        self.shapes.append((len(targets), len(pool)))
        return self.scores[targets.z["row"][:, 0].long()][:, pool.z["row"][:, 0].long()]


@pytest.fixture(scope="session")
def table() -> Callable[[Tensor], Table]:
    return Table
