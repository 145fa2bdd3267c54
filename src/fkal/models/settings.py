"""The model by name, and what is known of a model without building it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from fkal.errors import did_you_mean
from fkal.references import offered, resolved

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]

ENTRY_POINTS = "fkal.models"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model by name: one of `fkal list models` or any torchvision classification model."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str = "lenet"
    """One of `fkal list models`, or any classification model of torchvision."""


@dataclass(frozen=True)
class ModelEntry:
    """A builder (shape, number of classes) -> model, what it builds in one line, and the taps that the paper uses.

    The builder is a function, or a reference to one, `package.module:name`.
    """

    builder: str | Callable[[Shape, int], nn.Module]
    summary: str
    taps: tuple[str, ...]

    @property
    def build(self) -> Callable[[Shape, int], nn.Module]:
        """The builder; the module of a reference is imported here."""
        function: Callable[[Shape, int], nn.Module]
        function = resolved(self.builder) if isinstance(self.builder, str) else self.builder
        return function


MODELS: Mapping[str, ModelEntry] = MappingProxyType(
    {
        "lenet": ModelEntry(
            "fkal.models.registry:lenet", "conv 10, conv 20, fc 50 (paper: MNIST)", ("conv1", "conv2", "fc1")
        ),
        "resnet10": ModelEntry(
            "fkal.models.registry:resnet10", "ResNet, one basic block a stage (paper: SVHN)", ("layer3", "layer4")
        ),
        "resnet18": ModelEntry(
            "fkal.models.registry:resnet18", "ResNet, two basic blocks a stage (paper: ImageNet)", ("layer3", "layer4")
        ),
    }
)


def usual_taps(name: str) -> tuple[str, ...]:
    """The taps that the paper uses of this model; none for a model that it does not have."""
    return MODELS[name].taps if name in MODELS else ()


def offered_models() -> Mapping[str, EntryPoint]:
    """Models of other packages by name."""
    return offered(ENTRY_POINTS)


def known_model(name: str) -> str:
    """The name itself. Raises ValueError for one that no registry has.

    torchvision, and with it torch, is imported for names that are neither built in nor offered by a package.
    """
    if name in MODELS or name in offered_models():
        return name
    import torchvision

    known = [*MODELS, *offered_models(), *torchvision.models.list_models(module=torchvision.models)]
    if name not in known:
        raise ValueError(f"unknown model {name!r}; {did_you_mean(name, known)}see `fkal list models`")
    return name
