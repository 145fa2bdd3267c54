"""View: what one forward pass of some images tells about every class that they might have."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fkal.core.descriptors import Blocks


@dataclass(frozen=True)
class View:
    """Pooled features, pooled gradients of every logit, and class probabilities of n images.

    `z` maps a tap to `(n l_j)`, `jacobian` to `(d n l_j)`: row c is the gradient of logit c with
    respect to the tapped tensor, pooled like z. Neither is standardised. Of a tap that was pooled,
    `products` has `(d n)`: the tensor times that gradient, summed over all entries before pooling.
    """

    z: Blocks
    jacobian: Blocks
    p: Float[Tensor, "n d"]
    products: Blocks = field(default_factory=dict)

    def fisher_scores(self, tap: str) -> Float[Tensor, "d n l"]:
        """-dL(1_d, y^)/dz for each class d, in float64: J_d - sum_c p_c J_c.

        The Fisher score is the gradient of the log-likelihood, minus that of the loss. The
        cross-entropy's gradient at the logits is p - 1_d, and what is below is linear. Where the
        model is all but certain the two terms nearly cancel, so both are taken relative to the arg
        max class m: (J_d - J_m) - sum_c p_c (J_c - J_m).
        """
        jacobian = self.jacobian[tap].double()
        relative = jacobian - jacobian[self._top, self._rows]
        return relative - torch.einsum("nc,cnl->nl", self.p.double(), relative)

    def trace(self, tap: str) -> Float[Tensor, "d n"]:
        """z . g(d) over the whole tapped tensor, g being the Fisher score: this view's part of tr(C_zg(d)). float64."""
        if tap in self.products:
            product = self.products[tap].double()
        else:
            product = torch.einsum("nl,dnl->dn", self.z[tap].double(), self.jacobian[tap].double())
        relative = product - product[self._top, self._rows]
        return relative - torch.einsum("nc,cn->n", self.p.double(), relative)

    @property
    def _top(self) -> Int[Tensor, " n"]:
        return self.p.argmax(dim=1)

    @property
    def _rows(self) -> Int[Tensor, " n"]:
        return torch.arange(len(self.p), device=self.p.device)
