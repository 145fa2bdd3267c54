"""Mutual information of features and Fisher scores over Monte Carlo views, under a Gaussian model (section 3.3)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.views import View

RIDGE = 1e-8
"""Added to a covariance's diagonal, relative to its mean: Cholesky in float64 stays defined where the views are
fewer than the dimensions or a unit never fires, and a correlation of 1 tells a finite amount."""

ENTRIES = 1 << 22
"""Numbers g(d) of a tap held at once, 32 MiB, unless they are of no more than l views: so many views' products are
summed by one matrix product an image and class."""

CONSTANT = 1e-13
"""A variance below this part of the squared mean is the rounding of float32 features, not variation."""


def information(views: Iterable[View], *, diagonal: bool) -> Float[Tensor, "d n"]:
    """I(z; g(d)) in nats, summed over taps, from at least two views. float64.

    No more than l views of a tap of l units are held, or `ENTRIES` numbers of them, then only their sums.
    """
    taps: dict[str, _Tap] = {}
    for view in views:
        for tap, z in view.z.items():
            taps.setdefault(tap, _Tap(diagonal)).add(z.double(), view.fisher_scores(tap))
    return reduce(torch.add, (tap.information() for tap in taps.values()))


@dataclass
class _Tap:
    """The views of one tap, of which the latest are `held` and the others are in `sums`."""

    diagonal: bool
    held: list[tuple[Float[Tensor, "n l"], Float[Tensor, "d n l"]]] = field(default_factory=list)
    sums: "_Sums | None" = None

    def add(self, z: Float[Tensor, "n l"], g: Float[Tensor, "d n l"]) -> None:
        self.held.append((z, g))
        few = 1 if self.diagonal or self.sums else z.shape[1]
        if len(self.held) > max(few, ENTRIES // g.numel()):
            self._sum_up()

    def information(self) -> Float[Tensor, "d n"]:
        if not self.diagonal and not self.sums and _few(len(self.held), self.held[0][0].shape[1]):
            return _information_of_few(*self._taken())
        if self.held:
            self._sum_up()
        assert self.sums is not None
        measure = _diagonal_information if self.diagonal else _full_information
        return measure(*self.sums.covariances())

    def _sum_up(self) -> None:
        sums = self.sums or _Sums.at(*self.held.pop(0), diagonal=self.diagonal)
        self.sums = sums.plus(*self._taken()) if self.held else sums

    def _taken(self) -> tuple[Float[Tensor, "k n l"], Float[Tensor, "k d n l"]]:
        """Those that are held, which then are no longer."""
        z, g = (torch.stack(column) for column in zip(*self.held, strict=True))
        self.held.clear()
        return z, g


@dataclass(frozen=True)
class _Sums:
    """Over k views, of the deviations of z `(n l)` and g `(d n l)` from the first view's (`z_0`, `g_0`): their
    sums and those of their products, full `(... l l)` or the diagonals `(... l)`.

    Small variations about a large mean survive in deviations from the first view.
    """

    k: int
    z_0: Tensor
    g_0: Tensor
    z: Tensor
    g: Tensor
    zz: Tensor
    gg: Tensor
    zg: Tensor
    diagonal: bool

    @staticmethod
    def at(z_0: Float[Tensor, "n l"], g_0: Float[Tensor, "d n l"], *, diagonal: bool) -> "_Sums":
        """Of the first view alone."""
        z, g = torch.zeros_like(z_0), torch.zeros_like(g_0)
        products = (z, g, g) if diagonal else (_outer(z, z), _outer(g, g), _outer(g, g))
        return _Sums(1, z_0, g_0, z, g, *products, diagonal)

    def plus(self, z: Float[Tensor, "k n l"], g: Float[Tensor, "k d n l"]) -> "_Sums":
        """With k more views."""
        z, g = z - self.z_0, g - self.g_0
        zz, gg, zg = ("kni,kni->ni", "kdni,kdni->dni", "kni,kdni->dni")
        if not self.diagonal:
            zz, gg, zg = ("kni,knj->nij", "kdni,kdnj->dnij", "kni,kdnj->dnij")
        return replace(
            self,
            k=self.k + len(z),
            z=self.z + z.sum(dim=0),
            g=self.g + g.sum(dim=0),
            zz=self.zz + torch.einsum(zz, z, z),
            gg=self.gg + torch.einsum(gg, g, g),
            zg=self.zg + torch.einsum(zg, z, g),
        )

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """C_zz, C_gg and C_zg, scaled so that the first two have a mean diagonal of 1, which I does not feel.

        A ridge then means the same for every image and class, however small its gradients are.
        """
        product = torch.mul if self.diagonal else _outer
        z, g = self.z / self.k, self.g / self.k
        zz, gg = self.zz / self.k - product(z, z), self.gg / self.k - product(g, g)
        zg = self.zg / self.k - product(z.expand_as(g), g)
        z_scale, g_scale = self._scale(zz, self.z_0 + z), self._scale(gg, self.g_0 + g)
        return zz / z_scale, gg / g_scale, zg / (z_scale * g_scale).sqrt()

    def _scale(self, c: Tensor, mean: Tensor) -> Tensor:
        scale = _mean_variance(c if self.diagonal else c.diagonal(dim1=-2, dim2=-1), mean)
        return scale if self.diagonal else scale[..., None]


def _few(views: int, dimensions: int) -> bool:
    """Whether the views' inner products are less work than covariances; for a tap of z and g they are up to here."""
    return views <= dimensions


def _mean_variance(variances: Float[Tensor, "... l"], mean: Float[Tensor, "... l"]) -> Float[Tensor, "... 1"]:
    """1 where it is nothing but rounding."""
    variance, size = variances.mean(dim=-1, keepdim=True), (mean**2).mean(dim=-1, keepdim=True)
    return torch.where(variance > CONSTANT * size, variance, 1.0)


def _information_of_few(z: Float[Tensor, "k n l"], g: Float[Tensor, "k d n l"]) -> Float[Tensor, "d n"]:
    """`_full_information` by Sylvester's identity: |A A^T + ridge I_l| = ridge^(l - k) |A^T A + ridge I_k|.

    The columns of A are the views; those of z and g together have the sum of both inner products.
    """
    k = len(z)
    of_z, of_g = _inner_products(z), _inner_products(g)
    apart = _log_determinant(_ridged(of_z)) + _log_determinant(_ridged(of_g))
    return 0.5 * (apart - _log_determinant(_ridged(of_z + of_g)) - k * math.log(RIDGE))


def _inner_products(block: Float[Tensor, "k ... l"]) -> Float[Tensor, "... k k"]:
    """Of the views' deviations from their mean, scaled like the covariances."""
    mean = block.mean(dim=0)
    apart = block - mean
    apart /= (len(block) * _mean_variance((apart**2).mean(dim=0), mean)).sqrt()
    return torch.einsum("k...l,m...l->...km", apart, apart)


def _outer(a: Float[Tensor, "... l"], b: Float[Tensor, "... l"]) -> Float[Tensor, "... l l"]:
    return a[..., :, None] * b[..., None, :]


def _full_information(
    zz: Float[Tensor, "n l l"], gg: Float[Tensor, "d n l l"], zg: Float[Tensor, "d n l l"]
) -> Float[Tensor, "d n"]:
    """0.5 (log|C_zz| + log|C_gg| - log|C_zg,zg|) by Cholesky, one class at a time."""
    zz = _ridged(zz)
    log_zz = _log_determinant(zz)
    found = []
    for c_gg, c_zg in zip(gg, zg, strict=True):
        c_gg = _ridged(c_gg)
        both = torch.cat([torch.cat([zz, c_zg], dim=2), torch.cat([c_zg.mT, c_gg], dim=2)], dim=1)  # (n 2l 2l)
        found.append(0.5 * (log_zz + _log_determinant(c_gg) - _log_determinant(both)))
    return torch.stack(found)


def _diagonal_information(
    zz: Float[Tensor, "n l"], gg: Float[Tensor, "d n l"], zg: Float[Tensor, "d n l"]
) -> Float[Tensor, "d n"]:
    """-0.5 sum_i log(1 - rho_i^2): the taps' units taken one by one."""
    rho_squared = zg**2 / ((zz + RIDGE) * (gg + RIDGE))
    return -0.5 * torch.log1p(-rho_squared.clamp(max=1 - RIDGE)).sum(dim=-1)


def _ridged(c: Float[Tensor, "... l l"]) -> Float[Tensor, "... l l"]:
    return c + RIDGE * torch.eye(c.shape[-1], dtype=c.dtype, device=c.device)


def _log_determinant(c: Float[Tensor, "... l l"]) -> Float[Tensor, "..."]:
    return 2 * torch.linalg.cholesky(c).diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
