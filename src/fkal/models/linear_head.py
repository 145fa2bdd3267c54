"""The model of a frozen run: a linear softmax on embeddings, the backbone's work being done."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fkal.models.closed_form import LogitGradients
from fkal.models.dropout import MonteCarloDropout
from fkal.models.settings import FROZEN_TAP

SAMPLED = 0.5
"""Monte Carlo dropout of an embedding, as before the head of a whole network."""


class LinearHead(nn.Module):
    """Logits of embeddings, which come as images of l channels and one pixel. It starts at zero.

    Its only tap is the embedding, and what is compared under a tap are z, the embedding, and g, the gradient at the
    logits. Their outer product is the gradient of the weights; no backward pass is needed.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Flatten()
        self.dropout = MonteCarloDropout(SAMPLED)
        self.head = nn.Linear(width, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return self.head(self.dropout(self.embedding(x)))

    @property
    def closed_form_taps(self) -> Mapping[str, tuple[str, ...]]:
        """None while dropout is sampled."""
        return {} if self.dropout.generator is not None else {FROZEN_TAP: (FROZEN_TAP,)}

    @torch.no_grad()
    def logit_gradients(self, tap: str, outputs: Mapping[str, Tensor]) -> LogitGradients:
        """At the logits: each class's logit has the gradient 1 there and 0 elsewhere."""
        z, weight = outputs[tap], self.head.weight
        d = len(weight)
        at_logits = torch.eye(d, dtype=z.dtype, device=z.device)[:, None, :].repeat(1, len(z), 1)
        return LogitGradients(at_logits, (z @ weight.T).T)
