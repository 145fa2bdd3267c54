"""How unsure a single pass is of an image, from its logits `(n d)`: larger means less sure. float64."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def least_confidence(logits: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """1 - max_c p_c (Lewis and Gale, A Sequential Algorithm for Training Text Classifiers, SIGIR 1994)."""
    return -torch.expm1(logits.double().log_softmax(dim=1).amax(dim=1))


def margin(logits: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """1 - (p_1 - p_2), the two largest (Scheffer, Decomain, Wrobel, Active Hidden Markov Models, IDA 2001).

    A model of one class is sure of all: 0.
    """
    if logits.shape[1] < 2:
        return torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    first, second = logits.double().softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def wrongness(logits: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """1 - p_y, what a model leaves to other classes than the true one."""
    logs = logits.double().log_softmax(dim=1)
    return -torch.expm1(logs.gather(1, y[:, None])[:, 0])


def class_doubts(logits: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """1 - max(0, p_y - largest p of another class): how unsure a model is of an image if it is of class y.

    Of the predicted class it is `margin`, of all others 1.
    """
    predicted = logits.argmax(dim=1, keepdim=True)
    return torch.ones_like(logits, dtype=torch.float64).scatter_(1, predicted, margin(logits)[:, None])


def entropy(logits: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """H[p] in nats (Shannon, 1948)."""
    return torch.special.entr(logits.double().softmax(dim=1)).sum(dim=1)


def class_margins(scores: Float[Tensor, "n d"], scale: Float[Tensor, "d d"] | None = None) -> Float[Tensor, "n d"]:
    """How far each image is from each class's decision boundary (Emam et al., 2021, section 5).

    From a class that is not predicted, as far as the predicted class's score is above its own; from the predicted
    class, as far as from the nearest other. `scale` (c c') divides the difference of two classes' scores; where it
    is 0 there is no boundary between them, and the distance is infinite.
    """
    predicted = scores.argmax(dim=1, keepdim=True)
    gaps = scores.gather(1, predicted) - scores
    if scale is not None:
        between = scale[predicted[:, 0]]
        gaps = torch.where(between > 0, gaps / torch.where(between > 0, between, 1), torch.inf)
    gaps.scatter_(1, predicted, torch.inf)
    return gaps.scatter(1, predicted, gaps.amin(dim=1, keepdim=True))
