"""Last-layer gradients by their factors: that of an image's cross-entropy is the outer product of a = p - 1_y
and the features b, whose inner products and norms need no product to be built: <a b^T, a' b'^T> = (a.a')(b.b')."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.evidence import Outputs


class Gradients(NamedTuple):
    """Factors of n gradients of the last layer's weight."""

    a: Float[Tensor, "n d"]
    b: Float[Tensor, "n l"]

    @staticmethod
    def of(outputs: Outputs, y: Int[Tensor, " n"]) -> "Gradients":
        """Under the labels y."""
        a = outputs.logits.double().softmax(dim=1)
        a[torch.arange(len(y), device=y.device), y] -= 1
        return Gradients(a.to(outputs.features), outputs.features)

    @property
    def squared_norm(self) -> Float[Tensor, " n"]:
        a, b = torch.linalg.vector_norm(self.a, dim=1), torch.linalg.vector_norm(self.b, dim=1)
        return (a * b).square_()

    def products(self, row: Int[Tensor, ""]) -> Float[Tensor, " n"]:
        """Inner products of all with one of them."""
        return torch.mv(self.a, self.a[row]).mul_(torch.mv(self.b, self.b[row]))


def hypothesised(outputs: Outputs) -> Gradients:
    """Under the labels that the model itself predicts."""
    return Gradients.of(outputs, outputs.logits.argmax(dim=1))
