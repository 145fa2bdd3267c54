"""p_v(y|z): class probabilities of an image, learned from the labeled validation images under the same weights.

Both estimators weigh the classes alike: their probabilities stand for equal class frequencies, whatever those of the
validation set are. Their settings are those that best predict validation images which they have not seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import BLOCK_ENTRIES, r_z
from fkal.core.whitening import Whitening

Posterior = Callable[[Descriptors], Tensor]
"""z of n images to their class probabilities (n d)."""

NEIGHBOURS = (5, 10, 20, 50)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Those tried."""

SMOOTHING = 1e-3
"""The share that all classes have alike: no class is impossible because none of k neighbours has it."""


@dataclass(frozen=True)
class NearestNeighbours:
    """Temperature-weighted k nearest neighbours among labeled images, whose whitened descriptors are `z`, labels `y`.

    Each neighbour counts exp((R_z - largest R_z) / temperature) over the size of its class.
    """

    whiten: Whitening
    z: Descriptors
    y: Int[Tensor, " m"]
    k: int
    temperature: float

    def __call__(self, queries: Descriptors) -> Float[Tensor, "n d"]:
        """Probabilities of n images; memory beside them grows with m, not with n m."""
        whitened = self.whiten(Descriptors(queries.z))
        found = [_nearest(block, self.z, self.k) for block in _blocks(whitened, len(self.z))]
        return torch.cat([_weighed(similar, self.y[rows], self.y, self.temperature) for similar, rows in found])

    @staticmethod
    def fitted(z: Descriptors, y: Int[Tensor, " m"]) -> "NearestNeighbours":
        """With the k and the temperature of the smallest mean loss over classes when each image is left out once.

        z is whitened by how it varies within classes. Raises ValueError for fewer than two images.
        """
        if len(y) < 2:
            raise ValueError(f"{len(y)} validation images; give at least 2 to estimate class probabilities from")
        whiten = Whitening.within_classes(Descriptors(z.z), y)
        z = whiten(Descriptors(z.z))
        ks = sorted({min(k, len(y) - 1) for k in NEIGHBOURS})
        similar, rows = _others(z, ks[-1])

        def loss(k: int, temperature: float) -> float:
            p = _weighed(similar[:, :k], y[rows[:, :k]], y, temperature)
            return float(_class_mean(-p.gather(1, y[:, None])[:, 0].double().log(), y))

        k, temperature = min(product(ks, TEMPERATURES), key=lambda setting: loss(*setting))
        return NearestNeighbours(whiten, z, y, k, temperature)


PENALTIES = (1e-5, 1e-4, 1e-3)
"""Those tried: of the mean loss, on the squared weights."""

FOLDS = 2
STEPS = 50


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on z, each of whose entries has mean 0 and variance 1. float64 inside.

    `weight` is (l + 1, d), its last row the intercept.
    """

    mean: Float[Tensor, " l"]
    scale: Float[Tensor, " l"]
    weight: Float[Tensor, "l1 d"]

    def __call__(self, queries: Descriptors) -> Float[Tensor, "n d"]:
        """Probabilities of n images; float64 holds some blocks of them at a time."""
        return torch.cat([self._of(_side_by_side(block)) for block in _blocks(queries, len(self.weight))])

    def _of(self, z: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        return (_with_one((z.double() - self.mean) / self.scale) @ self.weight).softmax(dim=1).to(z)

    @staticmethod
    def fitted(z: Descriptors, y: Int[Tensor, " m"]) -> "Logistic":
        """With the penalty of the smallest loss on halves of each class that it was not fitted on."""
        rows = _side_by_side(z).double()
        mean, scale = rows.mean(dim=0), rows.std(dim=0, unbiased=False)
        scale = torch.where(scale > 0, scale, 1)
        x = _with_one((rows - mean) / scale)
        fold = torch.empty_like(y)
        fold[y.argsort(stable=True)] = torch.arange(len(y), device=y.device) % FOLDS

        def loss(penalty: float) -> float:
            parts = [(fold != f, fold == f) for f in range(FOLDS)]
            return sum(float(_loss(_regressed(x[a], y[a], penalty, y), x[b], y[b], y)) for a, b in parts)

        return Logistic(mean, scale, _regressed(x, y, min(PENALTIES, key=loss), y))


def opinion_pool(posteriors: Sequence[Posterior], z: Descriptors) -> Float[Tensor, "n d"]:
    """The normalised geometric mean of what they say (Genest and Zidek, Combining Probability Distributions, 1986)."""
    logs = torch.stack([posterior(z).double().log() for posterior in posteriors])
    return logs.mean(dim=0).softmax(dim=1)


def _regressed(
    x: Float[Tensor, "m l1"], y: Int[Tensor, " m"], penalty: float, all_y: Int[Tensor, " a"]
) -> Float[Tensor, "l1 d"]:
    weight = torch.zeros(x.shape[1], int(all_y.max()) + 1, dtype=x.dtype, device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = _loss(weight, x, y, all_y) + penalty * weight[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return weight.detach()


def _loss(
    weight: Float[Tensor, "l1 d"], x: Float[Tensor, "m l1"], y: Int[Tensor, " m"], all_y: Int[Tensor, " a"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy under equal class frequencies."""
    return cross_entropy(x @ weight, y, weight=1 / all_y.bincount().clamp(min=1).to(x))


def _side_by_side(z: Descriptors) -> Float[Tensor, "n l"]:
    return torch.cat(list(z.z.values()), dim=1)


def _with_one(x: Float[Tensor, "n l"]) -> Float[Tensor, "n l1"]:
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def _blocks(queries: Descriptors, m: int) -> Iterator[Descriptors]:
    return (block for _, block in queries.blocks(max(1, BLOCK_ENTRIES // m)))


def _nearest(queries: Descriptors, z: Descriptors, k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    best = r_z(queries, z).topk(k, dim=1)
    return best.values, best.indices


def _others(z: Descriptors, k: int) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Each image's k most similar others."""
    similar, rows = [], []
    for first, block in z.blocks(max(1, BLOCK_ENTRIES // len(z))):
        kernel = r_z(block, z)
        own = torch.arange(len(block), device=kernel.device)
        kernel[own, first + own] = -torch.inf
        best = kernel.topk(k, dim=1)
        similar.append(best.values)
        rows.append(best.indices)
    return torch.cat(similar), torch.cat(rows)


def _weighed(
    similar: Float[Tensor, "n k"], labels: Int[Tensor, "n k"], y: Int[Tensor, " m"], temperature: float
) -> Float[Tensor, "n d"]:
    """The share of each class among neighbours, best first, under equal class frequencies."""
    sizes = y.bincount().clamp(min=1).to(similar)
    weights = ((similar - similar[:, :1]) / temperature).exp() / sizes[labels]
    p = torch.zeros(len(similar), len(sizes), dtype=similar.dtype, device=similar.device)
    p.scatter_add_(1, labels, weights)
    return (1 - SMOOTHING) * p / p.sum(dim=1, keepdim=True) + SMOOTHING / len(sizes)


def _class_mean(values: Float[Tensor, " m"], y: Int[Tensor, " m"]) -> Float[Tensor, ""]:
    """The mean over classes of their means."""
    sums = torch.zeros(int(y.max()) + 1, dtype=values.dtype, device=y.device).index_add_(0, y, values)
    sizes = y.bincount()
    return (sums[sizes > 0] / sizes[sizes > 0]).mean()
