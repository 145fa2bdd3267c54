"""Builders by name. Input channels and class count follow the data."""

from math import prod

import torch
from torch import nn

from fkal.models.dropout import MonteCarloDropout
from fkal.models.lenet import LeNet
from fkal.models.linear_head import LinearHead
from fkal.models.modes import evaluating
from fkal.models.settings import MODELS, PROGRAM, TIMM, TORCHVISION, Shape, known_model, offered_models
from fkal.object_references import resolved

BLOCK_DROPOUT = 0.25
"""Monte Carlo dropout after both ReLUs of a residual block (protocol of the paper)."""

HEAD_DROPOUT = 0.5
"""Monte Carlo dropout before the head of a torchvision model that has no dropout of its own."""


def lenet(shape: Shape, n_classes: int) -> nn.Module:
    return LeNet(*shape, n_classes)


def linear(shape: Shape, n_classes: int) -> nn.Module:
    return LinearHead(prod(shape), n_classes)


def resnet10(shape: Shape, n_classes: int) -> nn.Module:
    return _residual((1, 1, 1, 1), shape, n_classes)


def resnet18(shape: Shape, n_classes: int) -> nn.Module:
    return _residual((2, 2, 2, 2), shape, n_classes)


def build(name: str, shape: Shape, n_classes: int) -> nn.Module:
    """The model for images of some shape, randomly initialised from torch's global seed.

    Its weights are channels last, which its feature maps follow: the same numbers but for rounding, convolved and
    pooled in about half the time where channels are few (`benchmarks/memory_format.py`).

    Args:
        name: A name of `MODELS`, of the entry-point group `fkal.models`, of a classification model of torchvision, or
            `timm:` and the name of a model of timm.
        shape: Channels, height and width of an image.
        n_classes: Outputs of the last layer.

    Returns:
        The model.

    Raises:
        ValueError: There is no such model, or it cannot take the images.

    Example:
        >>> build("lenet", (1, 28, 28), 10)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    return _named(name, shape, n_classes).to(memory_format=torch.channels_last)


def _named(name: str, shape: Shape, n_classes: int) -> nn.Module:
    if name in MODELS:
        return MODELS[name].build(shape, n_classes)
    plugins = offered_models()
    if name in plugins:
        return plugins[name].load().build(shape, n_classes)
    if name.endswith(PROGRAM):
        raise ValueError("an exported program has no layers that learn; set train.layers=frozen")
    if name.startswith(TIMM):
        model: nn.Module = resolved("fkal.models.timm_models:built")(name.removeprefix(TIMM), shape[0], n_classes)
        refuse_unless_it_takes(shape, model, name)
        return with_sampled_dropout(model)
    return _from_torchvision(known_model(name).removeprefix(TORCHVISION), shape, n_classes)


def head_name(model: nn.Module) -> str:
    """Dotted name of the last linear layer, the one that rotation pretraining leaves random."""
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer to serve as its head")
    return linear[-1]


def _residual(depths: tuple[int, ...], shape: Shape, n_classes: int) -> nn.Module:
    """A ResNet of basic blocks with the ImageNet stem."""
    from torchvision.models.resnet import BasicBlock, ResNet  # half a second, for these models alone

    model = ResNet(BasicBlock, list(depths), num_classes=n_classes)
    _accept_channels(model, shape[0])
    for layer in model.modules():
        if isinstance(layer, BasicBlock):
            layer.relu = nn.Sequential(nn.ReLU(), MonteCarloDropout(BLOCK_DROPOUT))
    return model


def _from_torchvision(name: str, shape: Shape, n_classes: int) -> nn.Module:
    import torchvision  # half a second, for these models alone

    auxiliary = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **auxiliary)
    _accept_channels(model, shape[0])
    refuse_unless_it_takes(shape, model, name)
    return with_sampled_dropout(model)


def with_sampled_dropout(model: nn.Module) -> nn.Module:
    """The model, changed in place: Monte Carlo dropout after each dropout of its own, else before its head."""
    for parent in list(model.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout) and child.p > 0:
                setattr(parent, child_name, nn.Sequential(child, MonteCarloDropout(child.p)))
    if not any(isinstance(layer, MonteCarloDropout) for layer in model.modules()):
        head = head_name(model)
        dropout = nn.Sequential(MonteCarloDropout(HEAD_DROPOUT), model.get_submodule(head))
        model.set_submodule(head, dropout)
    return model


def refuse_unless_it_takes(shape: Shape, model: nn.Module, name: str) -> None:
    """Raises ValueError for a model that images of this shape (c, h, w) cannot pass."""
    try:
        with torch.no_grad(), evaluating(model):
            model(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{name} cannot take images of {shape[1]}x{shape[2]} ({error}); set data.image_size to what it is made for"
        ) from error


def _accept_channels(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by one that takes the data's channels."""
    name, stem = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if stem.in_channels == channels:
        return
    if stem.groups != 1:
        raise ValueError(f"the first layer {name} is grouped; it cannot take {channels} channels")
    model.set_submodule(
        name,
        nn.Conv2d(
            channels,
            stem.out_channels,
            stem.kernel_size,  # type: ignore[arg-type]
            stem.stride,  # type: ignore[arg-type]
            stem.padding,  # type: ignore[arg-type]
            bias=stem.bias is not None,
        ),
    )
