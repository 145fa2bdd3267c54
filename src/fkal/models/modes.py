"""Modes of a model that last for a block and then are as they were before."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, parameters frozen; training mode again afterwards if the model was in it."""
    was_training = model.training
    frozen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        for parameter in frozen:
            parameter.requires_grad_()


@contextmanager
def learning(model: nn.Module, learner: nn.Module) -> Iterator[None]:
    """Training mode for the learner, which is the model or a part of it; the rest is frozen, in evaluation mode."""
    inside = {id(parameter) for parameter in learner.parameters()}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    for parameter in frozen:
        parameter.requires_grad_(False)
    model.eval()
    learner.train()
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_()
