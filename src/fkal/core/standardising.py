"""Features as a linear head takes them: standardised column by column, and reduced to principal components."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.picks import is_finite

FITTED_AT_ONCE = 1 << 28
"""Features, of all images, whose sums are taken at once; those of larger pools are added up part by part."""

PART = 1 << 22
"""Features of such a part: 32 MiB of float64."""


@dataclass(frozen=True)
class Standardising:
    """x -> ((x - mean) / deviation) components. float64 inside; without components the columns stay what they are."""

    mean: Float[Tensor, " l"]
    deviation: Float[Tensor, " l"]
    components: Float[Tensor, "l k"] | None = None

    def __call__(self, rows: Float[Tensor, "n l"]) -> Float[Tensor, "n k"]:
        standard = (rows.double() - self.mean) / self.deviation
        return (standard if self.components is None else standard @ self.components).to(rows)

    def folded(
        self, weight: Float[Tensor, "d k"], bias: Float[Tensor, " d"]
    ) -> tuple[Float[Tensor, "d l"], Float[Tensor, " d"]]:
        """Weight and bias of the linear layer that does both: this map, then a linear layer with these."""
        wide = weight.double() if self.components is None else weight.double() @ self.components.T
        scaled = wide / self.deviation
        return scaled.to(weight), (bias.double() - scaled @ self.mean).to(bias)

    def refolded(
        self, weight: Float[Tensor, "d k"], bias: Float[Tensor, " d"], by: "Standardising"
    ) -> tuple[Float[Tensor, "d j"], Float[Tensor, " d"]]:
        """Weight and bias of a linear layer behind `by` in place of a layer behind this map.

        Its outputs are the same. Where `by` has components they are those of the features that `by` keeps.
        """
        wide = weight.double() if self.components is None else weight.double() @ self.components.T
        wide = wide / self.deviation
        kept = wide * by.deviation
        kept = kept if by.components is None else kept @ by.components
        return kept.to(weight), (bias.double() + wide @ (by.mean - self.mean)).to(bias)

    @staticmethod
    def fitted(rows: Float[Tensor, "n l"], pca: int | None) -> "Standardising":
        """By the mean and deviation of some images' features, and their `pca` components of most variance.

        Args:
            rows: Features, one row per image.
            pca: How many components; None keeps all features. No more are taken than there are features or images.

        Returns:
            The map.

        Raises:
            ValueError: A feature is not finite.

        Example:
            >>> rows = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
            >>> Standardising.fitted(rows, None)(rows).tolist()
            [[-1.0, 0.0], [1.0, 0.0]]
        """
        if not is_finite(rows):
            raise ValueError("an embedding is not finite; check the weights, and mean and std of the images")
        parts = rows.split(len(rows) if rows.numel() <= FITTED_AT_ONCE else max(1, PART // rows.shape[1]))
        mean, deviation = _moments(parts)
        deviation = torch.where(deviation > 0, deviation, 1.0)  # a constant feature says nothing: it becomes 0
        if pca is None:
            return Standardising(mean, deviation)
        standard = ((part.double() - mean) / deviation for part in parts)
        products = reduce(Tensor.add_, (part.T @ part for part in standard))
        _, vectors = torch.linalg.eigh(products / len(rows))
        largest = vectors.flip(1)[:, :pca]
        return Standardising(mean, deviation, largest * _signs(largest))


def _signs(vectors: Float[Tensor, "l k"]) -> Float[Tensor, " k"]:
    """That make the largest entry of each vector positive: a component's sign is otherwise up to the solver."""
    largest = vectors.abs().argmax(dim=0)
    return vectors[largest, torch.arange(vectors.shape[1])].sign()


def _moments(parts: Sequence[Float[Tensor, "r l"]]) -> tuple[Float[Tensor, " l"], Float[Tensor, " l"]]:
    """The mean and the deviation of the rows of all parts. float64."""
    if len(parts) == 1:
        wide = parts[0].double()
        return wide.mean(dim=0), wide.std(dim=0, correction=0)
    count = sum(map(len, parts))
    mean = reduce(Tensor.add_, (part.double().sum(dim=0) for part in parts)) / count
    squares = reduce(Tensor.add_, ((part.double() - mean).square().sum(dim=0) for part in parts))
    return mean, (squares / count).sqrt()
