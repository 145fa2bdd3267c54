"""EPIG: how much an image's label says about predictions for images like those to be predicted.

Bickford Smith, Kirsch, Farquhar, Gal, Foster, Rainforth: Prediction-Oriented Bayesian Active Learning, AISTATS 2023.
"""

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_ENTRIES = 1 << 23
"""Joint probabilities held at once: 32 MiB of float32."""


def epig(p: Float[Tensor, "k n d"], p_targets: Float[Tensor, "k m d"]) -> Float[Tensor, " n"]:
    """EPIG(x) = mean over x* of I(y; y* | x, x*) in nats, 0 or more (rounding below that is cut).

    p(y, y*) = mean over the k networks of p_k(y | x) p_k(y* | x*), so that I = H[y] + H[y*] - H[y, y*].
    The passes of both have to be through the same k networks.
    """
    k, n, d = p.shape
    m = p_targets.shape[1]
    right = p_targets.flatten(1)  # (k m*d)
    size = max(1, BLOCK_ENTRIES // (d * right.shape[1]))
    joint = []
    for rows in p.split(size, dim=1):
        both = rows.flatten(1).T @ right / k  # (n*d m*d)
        joint.append(torch.special.entr(both).sum(dim=1).view(-1, d).sum(dim=1) / m)
    return (_entropy(p) + _entropy(p_targets).mean() - torch.cat(joint)).clamp(min=0)


def _entropy(p: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    return torch.special.entr(p.mean(dim=0)).sum(dim=1)
