"""Tokens of a transformer: how those of an image become one row."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def pooled_tokens(
    tokens: Float[Tensor, "n t c"], rule: Literal["mean", "cls", "cls+mean"], prefix: int
) -> Float[Tensor, "n l"]:
    """One row per image.

    Args:
        tokens: The output of a transformer's layer. The first `prefix` tokens belong to no patch: a class token, and
            registers after it.
        rule: `mean` of the patches, `cls` for the class token, `cls+mean` for both side by side.
        prefix: How many tokens come before the patches.

    Returns:
        The rows, of length c, or 2 c for both.

    Example:
        >>> tokens = torch.tensor([[[9.0], [1.0], [3.0]]])
        >>> [pooled_tokens(tokens, rule, prefix=1).tolist() for rule in ("mean", "cls", "cls+mean")]
        [[[2.0]], [[9.0]], [[9.0, 2.0]]]
    """
    cls, patches = tokens[:, 0], tokens[:, prefix:].mean(dim=1)
    match rule:
        case "mean":
            return patches
        case "cls":
            return cls
    return torch.cat([cls, patches], dim=1)
