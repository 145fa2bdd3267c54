"""Descriptors: phi turns a feature map into a row, standardising turns rows into Pearson factors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

Blocks = Mapping[str, Tensor]
"""One `(n l_j)` tensor a tap."""

Maps = Mapping[str, Callable[[Tensor], Tensor]]
"""What the rows of a tap go through; those of other taps stay as they are."""

ROUNDING = 8.0
"""A centred row this many machine epsilons above zero (relative to its largest entry) is constant."""


def pooled(features: Float[Tensor, "n ..."], grid: int = 1) -> Float[Tensor, "n l"]:
    """phi: one row per image of the output of a tapped layer.

    A feature map `(n c h w)` is averaged over its positions to `(n c)`. Token features `(n t c)` are averaged over
    tokens. A fully connected output `(n l)` stays as it is.

    Args:
        features: The output of the layer.
        grid: With 2, a map is averaged in each of 2 x 2 fields, to `(n 4c)`: a coarse where beside the what (one level
            of Lazebnik, Schmid, Ponce, Beyond Bags of Features, CVPR 2006). A map with fewer rows or columns has as
            many fields.

    Returns:
        The rows.

    Raises:
        ValueError: The output has another number of dimensions.

    Example:
        >>> pooled(torch.ones(5, 3, 8, 8)).shape, pooled(torch.ones(5, 3, 8, 8), grid=2).shape
        (torch.Size([5, 3]), torch.Size([5, 12]))
    """
    match features.dim():
        case 2:
            return features
        case 3:
            return features.mean(dim=1)
        case 4 if grid > 1:
            fields = min(grid, features.shape[2]), min(grid, features.shape[3])
            return adaptive_avg_pool2d(features, fields).flatten(1)
        case 4:
            return features.mean(dim=(2, 3))
    raise ValueError(
        f"a tapped layer returned a tensor of shape {tuple(features.shape)}; "
        "tap a layer that returns (n, l), (n, tokens, l) or (n, channels, height, width)"
    )


def standardised(block: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
    """Rows with zero mean and unit length: their dot products are Pearson correlations (eq. 6).

    A constant row has no correlation; it becomes zeros, similar to nothing. Rows are scaled by
    their largest entry before squaring, so that gradients of 1e-30 keep their direction.

    Args:
        block: One row per image.

    Returns:
        The standardised rows.

    Example:
        >>> rows = standardised(torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [7.0, 7.0, 7.0]]))
        >>> (rows @ rows.T).round(decimals=4).tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    largest = block.abs().amax(dim=1, keepdim=True)
    centred = block - block.mean(dim=1, keepdim=True)
    spread = centred.abs().amax(dim=1, keepdim=True)
    constant = spread <= ROUNDING * torch.finfo(block.dtype).eps * largest
    scaled = centred / torch.where(constant, 1.0, spread)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return torch.where(constant, 0.0, scaled / torch.where(constant, 1.0, length))


def loss_gradient(logits: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """Gradient of each row's cross-entropy with respect to its logits, scaled to a largest entry of 1.

    It is softmax(logits) - 1_y. Computed in that way, p_y - 1 is rounding noise as soon as the model is almost certain,
    and the whole row is lost to underflow later. Only its direction counts, since Pearson correlation ignores scale. So
    the label's entry is minus the sum of the others, in float64 where the device has it. A row without any gradient
    left stays zero.

    Args:
        logits: The model's outputs.
        y: The label of each row.

    Returns:
        One gradient per row.

    Example:
        >>> loss_gradient(torch.zeros(1, 3), torch.tensor([0])).tolist()
        [[-1.0, 0.5, 0.5]]
    """
    p = (logits if logits.device.type == "mps" else logits.double()).softmax(dim=1)
    rows = torch.arange(len(y), device=y.device)
    p[rows, y] = 0
    p[rows, y] = -p.sum(dim=1)
    largest = p.abs().amax(dim=1, keepdim=True)
    return (p / torch.where(largest == 0, 1, largest)).to(logits.dtype)


@runtime_checkable
class LookedUp(Protocol):
    """Rows of which some can be had: a tensor, or what reads them."""

    def __getitem__(self, rows: Any, /) -> Tensor: ...


def looked_up(z: Mapping[str, LookedUp], g: Mapping[str, LookedUp], rows: Int[Tensor, " r"] | slice) -> "Descriptors":
    """Some rows of features and gradients."""
    return Descriptors({tap: block[rows] for tap, block in z.items()}, {tap: block[rows] for tap, block in g.items()})


@dataclass(frozen=True)
class Descriptors:
    """Standardised rows of n images: features `z` and, where they were gathered, gradients `g`.

    Both map a tap's name to an `(n l_j)` tensor; every tensor has the same n.
    """

    z: Blocks
    g: Blocks = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {len(block) for block in (*self.z.values(), *self.g.values())}
        if len(sizes) != 1:
            raise ValueError(f"blocks of {sorted(sizes)} rows; give every tap one row an image")

    def __len__(self) -> int:
        return len(next(iter(self.z.values())))

    def __getitem__(self, rows: Int[Tensor, " r"] | slice) -> "Descriptors":
        return looked_up(self.z, self.g, rows)

    @property
    def device(self) -> torch.device:
        return next(iter(self.z.values())).device

    @property
    def features(self) -> "Descriptors":
        """z alone."""
        return Descriptors(self.z)

    def with_gradients(self, g: Blocks) -> "Descriptors":
        """The same features beside these gradients, or what takes their place."""
        return Descriptors(self.z, g)

    def with_one_more(self, name: str, rows: Tensor) -> "Descriptors":
        """The same with one more block beside the gradients."""
        return Descriptors(self.z, {**self.g, name: rows})

    def mapped(self, z: Maps, g: Maps) -> "Descriptors":
        """Their features and gradients by functions of rows."""
        return Descriptors(_mapped(self.z, z), _mapped(self.g, g))

    def blocks(self, size: int) -> Iterator[tuple[int, "Descriptors"]]:
        """(first row, rows) for consecutive runs of `size` rows."""
        for first in range(0, len(self), size):
            yield first, self[first : first + size]

    @staticmethod
    def of(z: Blocks, g: Blocks | None = None) -> "Descriptors":
        """Descriptors of pooled features and gradients, standardised tap by tap.

        Args:
            z: Features by tap, one row per image.
            g: Gradients by tap, where they were gathered.

        Returns:
            The descriptors.

        Example:
            >>> len(Descriptors.of({"fc1": torch.rand(7, 50)}))
            7
        """
        return Descriptors(
            {tap: standardised(block) for tap, block in z.items()},
            {tap: standardised(block) for tap, block in (g or {}).items()},
        )

    @staticmethod
    def concatenated(parts: Iterable["Descriptors"]) -> "Descriptors":
        """One record of all rows of `parts`, in order."""
        parts = list(parts)
        return Descriptors(
            {tap: torch.cat([part.z[tap] for part in parts]) for tap in parts[0].z},
            {tap: torch.cat([part.g[tap] for part in parts]) for tap in parts[0].g},
        )


def _mapped(blocks: Blocks, maps: Maps) -> Blocks:
    return {tap: maps[tap](block) if tap in maps else block for tap, block in blocks.items()}
