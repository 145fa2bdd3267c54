"""Last-layer gradients by their factors: that of an image's cross-entropy is the outer product of a = p - 1_y
and the features b, whose inner products and norms need no product to be built: <a b^T, a' b'^T> = (a.a')(b.b')."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.evidence import PoolOutputs
from fkal.core.row_stream import Rows, joined


class Gradients(NamedTuple):
    """Factors of n gradients of the last layer's weight: a (n d), and b (n l), which may be a stream."""

    a: Float[Tensor, "n d"]
    b: Rows

    @staticmethod
    def of(outputs: PoolOutputs, y: Int[Tensor, " n"]) -> "Gradients":
        """Under the labels y."""
        a = outputs.logits.double().softmax(dim=1)
        a[torch.arange(len(y), device=y.device), y] -= 1
        b = outputs.features
        return Gradients(a.to(b.device, b.dtype), b)

    @property
    def squared_norm(self) -> Float[Tensor, " n"]:
        a = torch.linalg.vector_norm(self.a, dim=1)
        return (a * self._of_features(lambda b: torch.linalg.vector_norm(b, dim=1))).square_()

    def products(self, row: Int[Tensor, ""]) -> Float[Tensor, " n"]:
        """Inner products of all with one of them."""
        features = self.b[row[None]][0]
        return torch.mv(self.a, self.a[row]).mul_(self._of_features(lambda b: torch.mv(b, features)))

    def _of_features(self, function: Callable[[Tensor], Tensor]) -> Float[Tensor, " n"]:
        """What a function makes of the features, those of a stream in parts."""
        if isinstance(self.b, Tensor):
            return function(self.b)
        return joined((function(part) for part in self.b.split()), len(self.b))


def hypothesised(outputs: PoolOutputs) -> Gradients:
    """Under the labels that the model itself predicts."""
    return Gradients.of(outputs, outputs.logits.argmax(dim=1))
