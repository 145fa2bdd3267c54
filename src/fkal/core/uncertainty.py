"""How unsure a model is of an image, from k stochastic passes (Monte Carlo dropout, an ensemble, or both).

Each measure takes class probabilities `(k n d)` and returns one number an image, larger meaning less sure.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from fkal.core.evidence import Uncertainty


def variation_ratio(p: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    """1 - share of the passes that vote for the most voted class.

    Freeman, Elementary Applied Statistics, 1965; as acquisition Gal, Islam, Ghahramani, ICML 2017.
    A pass votes for the smallest of equally probable classes. An image with a NaN gets NaN.

    Args:
        p: Class probabilities of k passes.

    Returns:
        One number per image, from 0 to 1.

    Example:
        >>> variation_ratio(torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]]])).tolist()
        [0.5]
    """
    votes = torch.nn.functional.one_hot(p.argmax(dim=2), p.shape[2]).sum(dim=0)  # (n d)
    ratio = 1 - votes.amax(dim=1).to(p) / len(p)
    return ratio.masked_fill(p.isnan().any(dim=2).any(dim=0), torch.nan)


def entropy(p: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    """H[mean p] in nats: predictive entropy (Shannon, 1948), the acquisition `max entropy`.

    Args:
        p: Class probabilities of k passes.

    Returns:
        One number per image, 0 or more.

    Example:
        >>> round(entropy(torch.tensor([[[0.5, 0.5]]])).item(), 3)
        0.693
    """
    return torch.special.entr(p.mean(dim=0)).sum(dim=1)


def mutual_information(p: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    """H[mean p] - mean H[p] in nats: BALD, what the label would say about the model.

    Houlsby, Huszar, Ghahramani, Lengyel: Bayesian Active Learning for Classification and Preference
    Learning, 2011. It is 0 or more; rounding below that is cut.

    Args:
        p: Class probabilities of k passes.

    Returns:
        One number per image.

    Example:
        >>> round(mutual_information(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])).item(), 3)
        0.693
    """
    return (entropy(p) - torch.special.entr(p).sum(dim=2).mean(dim=0)).clamp(min=0)


def mean_std(p: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    """Standard deviation over the passes, averaged over classes (Kampffmeyer et al., CVPR workshops 2016).

    Args:
        p: Class probabilities of k passes.

    Returns:
        One number per image.

    Example:
        >>> mean_std(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])).tolist()
        [0.5]
    """
    return p.std(dim=0, correction=0).mean(dim=1)


def uncertainty(p: Float[Tensor, "k n d"]) -> Uncertainty:
    """All four measures of some images: what the `select_` functions of `fkal.acquisition.uncertainty` read.

    Args:
        p: Class probabilities of k passes.

    Returns:
        The four measures, one number per image each.

    Example:
        >>> uncertainty(torch.rand(8, 100, 10).softmax(dim=2)).n
        100
    """
    return Uncertainty(variation_ratio(p), entropy(p), mutual_information(p), mean_std(p))
