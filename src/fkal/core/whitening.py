"""Whitening: the Fisher kernel with the inverse of the information matrix (eq. 10), which eq. 12 leaves out.

Of a layer's weights, whose gradients are outer products of z and g, the empirical Fisher information is about the
Kronecker product of E[z z^T] and E[g g^T] (Martens and Grosse, Optimizing Neural Networks with Kronecker-factored
Approximate Curvature, ICML 2015). Its inverse square root is that of each factor, and costs O(l^2) a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fkal.core.descriptors import Descriptors
from fkal.core.row_stream import PoolDescriptors, StreamedDescriptors

Of = TypeVar("Of", Descriptors, StreamedDescriptors, PoolDescriptors)


@dataclass(frozen=True)
class Factor:
    """x -> (x - mean) root, scaled to unit length. float64."""

    mean: Float[Tensor, " l"]
    root: Float[Tensor, "l l"]

    def __call__(self, rows: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        return normalize((rows - self.mean.to(rows)) @ self.root.to(rows), dim=1)

    @staticmethod
    def of(rows: Float[Tensor, "m l"], *, centred: bool) -> "Factor":
        """Of shrunk second moments, about the mean or about zero."""
        mean = rows.double().mean(dim=0) if centred else rows.new_zeros(rows.shape[1], dtype=torch.float64)
        values, vectors = torch.linalg.eigh(shrunk_covariance(rows.double() - mean))
        if not float(values.amax()) > 0:  # all rows alike: no direction to weigh against another
            return Factor(mean, torch.eye(len(values)).to(values))
        least = torch.finfo(values.dtype).eps * len(values) * values.amax()
        root = vectors * values.clamp(min=least).rsqrt() @ vectors.T
        return Factor(mean, root)


@dataclass(frozen=True)
class Whitening:
    """A factor for each tap's z and g; those that it lacks stay as they are."""

    z: Mapping[str, Factor]
    g: Mapping[str, Factor]

    def __call__(self, descriptors: Of) -> Of:
        """Rows of unit length in which every direction varies alike over what it was fitted on."""
        return descriptors.mapped(self.z, self.g)

    @staticmethod
    def within_classes(descriptors: Descriptors, y: Int[Tensor, " m"]) -> "Whitening":
        """Of features alone, from their moments about the means of their classes."""
        return Whitening({tap: _within(block, y) for tap, block in descriptors.z.items()}, {})

    @staticmethod
    def fitted(descriptors: Descriptors) -> "Whitening":
        """From the moments of some images: features about their mean, gradients, whose expectation is 0, as they are.

        float64 inside. Raises ValueError for no image, or a number that is not finite.
        """
        return Whitening(
            {tap: Factor.of(block, centred=True) for tap, block in descriptors.z.items()},
            {tap: Factor.of(block, centred=False) for tap, block in descriptors.g.items()},
        )


@runtime_checkable
class Whiten(Protocol):
    """From descriptors to descriptors; those of a stream stay one."""

    def __call__(self, descriptors: Of) -> Of: ...


def unchanged(descriptors: Of) -> Of:
    """No whitening."""
    return descriptors


def _none(_: Descriptors) -> Whiten:
    return unchanged


WHITENINGS: Mapping[str, Callable[[Descriptors], Whiten]] = MappingProxyType(
    {"none": _none, "shrunk": Whitening.fitted}
)
"""By the name that `acquisition.whitening` takes: of validation images, what all descriptors go through."""


def shrunk_covariance(rows: Float[Tensor, "m l"]) -> Float[Tensor, "l l"]:
    """(1 - rho) S + rho mean(diag S) 1 of rows about zero, with the rho of least expected squared error.

    Ledoit and Wolf, A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices, Journal of Multivariate
    Analysis 2004. Raises ValueError for no row, or a number that is not finite.
    """
    if not len(rows) or not rows.isfinite().all():
        raise ValueError("no descriptor, or one that is not finite; check the model's outputs and the learning rate")
    n, width = rows.shape
    sample = rows.T @ rows / n
    target = sample.diagonal().mean() * torch.eye(width, dtype=rows.dtype, device=rows.device)
    off_target = (sample - target).square().sum()
    noise = ((rows.square().sum(dim=1).square().sum() / n) - sample.square().sum()) / n
    rho = 1.0 if n == 1 or off_target <= 0 else min(1.0, float(noise / off_target))
    return (1 - rho) * sample + rho * target


def _within(block: Float[Tensor, "m l"], y: Int[Tensor, " m"]) -> Factor:
    rows = block.double()
    sums = torch.zeros(int(y.max()) + 1, rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, y, rows)
    means = sums / y.bincount()[:, None].clamp(min=1)
    return replace(Factor.of(rows - means[y], centred=False), mean=rows.mean(dim=0))
