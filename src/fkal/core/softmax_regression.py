"""Multinomial logistic regression under equal class frequencies."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

STEPS = 50


def regressed(
    x: Float[Tensor, "m l1"], y: Int[Tensor, " m"], penalty: float, *, all_y: Int[Tensor, " a"], classes: int
) -> Float[Tensor, "l1 d"]:
    """The weight of least loss; its gradient is written out, which takes three quarters of autograd's time.

    Args:
        x: Inputs, whose last column is 1 (`with_one`).
        y: Their classes.
        penalty: Of the mean loss, on the squared weights but those of the last row, the intercept.
        all_y: By the frequencies of its classes the images are weighed.
        classes: How many there are.

    Returns:
        The weight, in the precision of x.
    """
    weight = torch.zeros(x.shape[1], classes, dtype=x.dtype, device=x.device)
    optimiser = torch.optim.LBFGS([weight], max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        loss = WeightedLoss.of(x @ weight, y, all_y)
        weight.grad = x.T @ loss.gradient
        weight.grad[:-1] += 2 * penalty * weight[:-1]
        return loss.value + penalty * weight[:-1].square().sum()

    with torch.no_grad():
        optimiser.step(closure)
    return weight


class WeightedLoss(NamedTuple):
    """Mean cross-entropy under equal class frequencies, and its gradient with respect to the logits."""

    value: Float[Tensor, ""]
    gradient: Float[Tensor, "m d"]

    @staticmethod
    def of(logits: Float[Tensor, "m d"], y: Int[Tensor, " m"], all_y: Int[Tensor, " a"]) -> "WeightedLoss":
        """Of images of classes y, each weighed by one over how many images of its class are in `all_y`."""
        share = (1 / class_sizes(all_y, logits.shape[1], logits))[y]
        share = share / share.sum()
        logs = logits.log_softmax(dim=1)
        value = -(share @ logs.gather(1, y[:, None])[:, 0])
        gradient = logs.exp_()
        gradient[torch.arange(len(y), device=y.device), y] -= 1
        return WeightedLoss(value, gradient.mul_(share[:, None]))


def class_sizes(y: Int[Tensor, " m"], classes: int, like: Float[Tensor, "..."]) -> Float[Tensor, " d"]:
    """How many images each class has, at least 1."""
    return y.bincount(minlength=classes).clamp(min=1).to(like)


def with_one(x: Float[Tensor, "n l"]) -> Float[Tensor, "n l1"]:
    """The rows, each with a 1 at its end."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
