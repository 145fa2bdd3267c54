"""p_v(y|z): class probabilities of an image, learned from the labeled validation images under the same weights.

Both estimators weigh the classes alike: their probabilities stand for equal class frequencies, whatever those of the
validation set are. Their settings are those that best predict validation images which they have not seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.kernels import r_z
from fkal.core.row_stream import PoolDescriptors, joined
from fkal.core.softmax_regression import WeightedLoss, class_sizes, regressed, with_one
from fkal.core.whitening import Whitening

Posterior = Callable[[PoolDescriptors], Tensor]
"""z of n images to their class probabilities (n d)."""

NEIGHBOURS = (5, 10, 20, 50)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Those tried."""

NEIGHBOUR_FOLDS = 10
"""Parts of the validation images that are left out in turn."""

MOST_LEFT_OUT = 2000
"""Images, about, that are left out in all: the mean loss of so many tells one k and temperature from another."""

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

    def __call__(self, queries: PoolDescriptors) -> Float[Tensor, "n d"]:
        """Probabilities of n images; memory beside them grows with m, not with n m."""
        whitened = self.whiten(queries.features)
        return joined((self._of(block) for block in _blocks(whitened, len(self.z))), len(queries))

    def _of(self, whitened: Descriptors) -> Float[Tensor, "n d"]:
        similar, rows = _nearest(whitened, self.z, self.k)
        return _weighed(similar, self.y[rows], self.y, self.temperature)

    @staticmethod
    def fitted(z: Descriptors, y: Int[Tensor, " m"]) -> "NearestNeighbours":
        """With the k and the temperature of the smallest mean loss over classes on folds that are left out in turn.

        z is whitened by how it varies within classes. A fold that is left out has no part in the whitening either: an
        image seen by it would look nearer to its class than a pool image does. Raises ValueError for fewer than two
        images.
        """
        if len(y) < 2:
            raise ValueError(f"{len(y)} validation images; give at least 2 to estimate class probabilities from")
        z = Descriptors(z.z)
        fold = _folds(y, min(len(y), NEIGHBOUR_FOLDS))
        largest = int(fold.bincount().amax())
        ks = sorted({min(k, len(y) - largest) for k in NEIGHBOURS})
        parts = [_LeftOut.of(z, y, fold == f, ks[-1]) for f in range(int(fold.amax()) + 1)]
        left_out = _LeftOut(*(torch.cat(column) for column in zip(*parts, strict=True)))
        settings = product(ks, TEMPERATURES)
        k, temperature = min(settings, key=lambda setting: left_out.loss(*setting, classes=int(y.max()) + 1))
        whiten = Whitening.within_classes(z, y)
        return NearestNeighbours(whiten, whiten(z), y, k, temperature)


class _LeftOut(NamedTuple):
    """For images that are left out: their similarity to their nearest neighbours, best first, what each neighbour
    counts, whether it is of the image's class, and the class."""

    similar: Float[Tensor, "m k"]
    share: Float[Tensor, "m k"]
    mine: Bool[Tensor, "m k"]
    y: Int[Tensor, " m"]

    @staticmethod
    def of(z: Descriptors, y: Int[Tensor, " m"], held: Bool[Tensor, " m"], k: int) -> "_LeftOut":
        """The held-out images, or an even part of them. Neighbours are not held out, and the whitening is theirs."""
        rest, out = (~held).nonzero()[:, 0], held.nonzero()[:, 0][:: -(-len(y) // MOST_LEFT_OUT)]
        known, own = y[rest], y[out]
        whiten = Whitening.within_classes(z[rest], known)
        references = whiten(z[rest])
        found = [_nearest(block, references, k) for block in _blocks(whiten(z[out]), len(known))]
        similar, labels = (torch.cat(column) for column in zip(*found, strict=True))
        labels = known[labels]
        return _LeftOut(
            similar, (1 / class_sizes(known, int(y.max()) + 1, similar))[labels], labels == own[:, None], own
        )

    def loss(self, k: int, temperature: float, *, classes: int) -> float:
        """The mean over classes of what their images lose: minus the logarithm of the probability of their class."""
        weights = ((self.similar[:, :k] - self.similar[:, :1]) / temperature).exp_().mul_(self.share[:, :k])
        p = (weights * self.mine[:, :k]).sum(dim=1) / weights.sum(dim=1)
        return float(_class_mean(-((1 - SMOOTHING) * p + SMOOTHING / classes).double().log(), self.y))


POOLED_ROWS = 1 << 14
"""Rows of class probabilities that are pooled at once."""

AT_ONCE = 1 << 20
"""Similarities held at once: 4 MiB, of which the nearest are looked for while they are in a cache."""

PENALTIES = (1e-5, 1e-4, 1e-3)
"""Those tried: of the mean loss, on the squared weights."""

FOLDS = 2


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression on z, each of whose entries has mean 0 and variance 1.

    `weight` is (l + 1, d), its last row the intercept.
    """

    mean: Float[Tensor, " l"]
    scale: Float[Tensor, " l"]
    weight: Float[Tensor, "l1 d"]

    def __call__(self, queries: PoolDescriptors) -> Float[Tensor, "n d"]:
        """Probabilities of n images; float64 holds some blocks of them at a time."""
        blocks = _blocks(queries, len(self.weight))
        return joined((self._of(_side_by_side(block)) for block in blocks), len(queries))

    def _of(self, z: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        return (with_one((z.to(self.mean) - self.mean) / self.scale) @ self.weight).softmax(dim=1).to(z)

    @staticmethod
    def fitted(z: Descriptors, y: Int[Tensor, " m"]) -> "Logistic":
        """With the penalty of the smallest loss on halves of each class that had no part in its fit.

        The halves are fitted in the precision of z, which tells penalties apart; the fit itself in float64.
        """
        rows, fold = _side_by_side(z), _folds(y, FOLDS)
        parts = [(rows[fold != f], y[fold != f], rows[fold == f], y[fold == f]) for f in range(FOLDS)]

        def loss(penalty: float) -> float:
            return sum(Logistic._with(penalty, x, own, y)._loss(held, known, y) for x, own, held, known in parts)

        return Logistic._with(min(PENALTIES, key=loss), rows.double(), y, y)

    @staticmethod
    def _with(penalty: float, rows: Float[Tensor, "m l"], y: Int[Tensor, " m"], all_y: Int[Tensor, " a"]) -> "Logistic":
        mean, scale = rows.mean(dim=0), rows.std(dim=0, unbiased=False)
        scale = torch.where(scale > 0, scale, 1)
        x, classes = with_one((rows - mean) / scale), int(all_y.max()) + 1
        return Logistic(mean, scale, regressed(x, y, penalty, all_y=all_y, classes=classes))

    def _loss(self, rows: Float[Tensor, "m l"], y: Int[Tensor, " m"], all_y: Int[Tensor, " a"]) -> float:
        logits = with_one((rows - self.mean) / self.scale) @ self.weight
        return float(WeightedLoss.of(logits, y, all_y).value) if len(y) else 0.0


def opinion_pool(posteriors: Sequence[Posterior], z: PoolDescriptors) -> Float[Tensor, "n d"]:
    """The normalised geometric mean of what they say (Genest and Zidek, Combining Probability Distributions, 1986).

    float64, of which only the result is ever whole.
    """
    said = [posterior(z) for posterior in posteriors]
    pooled = torch.empty_like(said[0], dtype=torch.float64)
    for parts in zip(pooled.split(POOLED_ROWS), *(p.split(POOLED_ROWS) for p in said), strict=True):
        logs = torch.stack([part.double().log() for part in parts[1:]])
        parts[0].copy_(logs.mean(dim=0).softmax(dim=1))
    return pooled


def _folds(y: Int[Tensor, " m"], count: int) -> Int[Tensor, " m"]:
    """A fold for each image, so that every fold has about as many images of each class."""
    fold = torch.empty_like(y)
    fold[y.argsort(stable=True)] = torch.arange(len(y), device=y.device) % count
    return fold


def _side_by_side(z: Descriptors) -> Float[Tensor, "n l"]:
    return torch.cat(list(z.z.values()), dim=1)


def _blocks(queries: PoolDescriptors, m: int) -> Iterator[Descriptors]:
    return (block for _, block in queries.blocks(max(1, AT_ONCE // m)))


def _nearest(queries: Descriptors, z: Descriptors, k: int) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    best = r_z(queries, z).topk(k, dim=1)
    return best.values, best.indices


def _weighed(
    similar: Float[Tensor, "n k"], labels: Int[Tensor, "n k"], y: Int[Tensor, " m"], temperature: float
) -> Float[Tensor, "n d"]:
    """The share of each class among neighbours, best first, under equal class frequencies."""
    sizes = class_sizes(y, int(y.max()) + 1, similar)
    weights = ((similar - similar[:, :1]) / temperature).exp() / sizes[labels]
    p = torch.zeros(len(similar), len(sizes), dtype=similar.dtype, device=similar.device)
    p.scatter_add_(1, labels, weights)
    return (1 - SMOOTHING) * p / p.sum(dim=1, keepdim=True) + SMOOTHING / len(sizes)


def _class_mean(values: Float[Tensor, " m"], y: Int[Tensor, " m"]) -> Float[Tensor, ""]:
    """The mean over classes of their means."""
    sums = torch.zeros(int(y.max()) + 1, dtype=values.dtype, device=y.device).index_add_(0, y, values)
    sizes = y.bincount()
    return (sums[sizes > 0] / sizes[sizes > 0]).mean()
