"""View: what one forward pass of some images tells about every class that they might have."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.descriptors import Blocks


@dataclass(frozen=True)
class View:
    """Pooled features, pooled gradients of every logit, and class probabilities of n images.

    `z` maps a tap to `(n l_j)`, `jacobian` to `(d n l_j)`: row c is the gradient of logit c with
    respect to the tapped tensor, pooled like z. Neither is standardised.
    """

    z: Blocks
    jacobian: Blocks
    p: Float[Tensor, "n d"]

    def fisher_scores(self, tap: str) -> Float[Tensor, "d n l"]:
        """-dL(1_d, y^)/dz for each class d, in float64: J_d - sum_c p_c J_c.

        The Fisher score is the gradient of the log-likelihood, minus that of the loss. The
        cross-entropy's gradient at the logits is p - 1_d, and what lies below is linear; where the
        model is all but certain the two terms nearly cancel, which float32 would not survive.
        """
        jacobian = self.jacobian[tap].double()
        p = self.p.double()
        p = p / p.sum(dim=1, keepdim=True)
        return jacobian - torch.einsum("nc,cnl->nl", p, jacobian)
