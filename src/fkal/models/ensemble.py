"""An ensemble: several models of one architecture that agree by averaging."""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Ensemble(nn.Module):
    """E models; its output is the log of their mean class probabilities (Lakshminarayanan et al., NeurIPS 2017)."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        log_p = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return log_p.logsumexp(dim=0) - math.log(len(self.members))


def members_of(model: nn.Module) -> Sequence[nn.Module]:
    """The models that are trained and asked one by one: those of an ensemble, or the model alone."""
    return list(model.members) if isinstance(model, Ensemble) else [model]
