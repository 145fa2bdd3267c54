"""The model by name, and what is known of a model without building it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from fkal.errors import did_you_mean
from fkal.object_references import offered, resolved

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


TORCHVISION_TAPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alexnet": ("features", "classifier.4"),
        "convnext": ("features.5", "features.7"),
        "densenet": ("features.denseblock3", "features.denseblock4"),
        "efficientnet_b": ("features.6", "features.7"),
        "efficientnet_v2_l": ("features.6", "features.7"),
        "efficientnet_v2_m": ("features.6", "features.7"),
        "efficientnet_v2_s": ("features.5", "features.6"),
        "googlenet": ("inception4e", "inception5b"),
        "inception_v3": ("Mixed_6e", "Mixed_7c"),
        "maxvit": ("blocks.2", "blocks.3"),
        "mnasnet": ("layers.12", "layers.13"),
        "mobilenet_v2": ("features.16", "features.17"),
        "mobilenet_v3_large": ("features.12", "features.15"),
        "mobilenet_v3_small": ("features.8", "features.11"),
        "regnet": ("trunk_output.block3", "trunk_output.block4"),
        "resnet": ("layer3", "layer4"),
        "resnext": ("layer3", "layer4"),
        "shufflenet": ("stage3", "stage4"),
        "squeezenet1_0": ("features.10", "features.12"),
        "squeezenet1_1": ("features.7", "features.12"),
        "swin": ("permute",),
        "vgg": ("features", "classifier.3"),
        "vit_b": ("encoder.layers.encoder_layer_10", "encoder.layers.encoder_layer_11"),
        "vit_h": ("encoder.layers.encoder_layer_30", "encoder.layers.encoder_layer_31"),
        "vit_l": ("encoder.layers.encoder_layer_22", "encoder.layers.encoder_layer_23"),
        "wide_resnet": ("layer3", "layer4"),
    }
)
"""The last two stages of torchvision's models, by what a model's name starts with.

Networks whose hidden layers are linear give the last convolutional stage and the last hidden layer. A Swin
transformer has its channels last up to the layer that permutes them.
"""


def usual_taps(name: str) -> tuple[str, ...]:
    """The taps of a model that nobody named others for; none where the model is unknown.

    They are those of the paper, of the package that offers the model, or the last two stages of torchvision's model.
    """
    if name in MODELS:
        return MODELS[name].taps
    plugins = offered_models()
    if name in plugins:
        entry: ModelEntry = plugins[name].load()
        return tuple(entry.taps)
    return next((taps for start, taps in TORCHVISION_TAPS.items() if name.startswith(start)), ())


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
