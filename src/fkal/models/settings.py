"""The model by name, and what is known of a model without building it. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fkal.core.precision_names import Precision
from fkal.errors import did_you_mean
from fkal.object_references import offered, resolved

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int]

ENTRY_POINTS = "fkal.models"

TORCHVISION, TIMM, PROGRAM = "torchvision:", "timm:", ".pt2"
"""What the name of a model of a library starts with, and what the file of an exported program ends with."""

DEFAULT_WEIGHTS = "DEFAULT"
"""The weights that a library suggests for a model."""

LINEAR = "linear"
"""The model of own embeddings: a linear softmax."""

FROZEN_TAP = "embedding"
"""The only tap of a frozen run: what enters its head."""

MOST_COMPONENTS = 65_536

Layers = Literal["all", "head", "frozen"]
TokenRule = Literal["mean", "cls", "cls+mean"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The model by name, and the weights that it starts from.

    Without `weights` the first weights are drawn at random.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str = "lenet"
    """One of `fkal list models`, `torchvision:NAME`, `timm:NAME`, or the file of an exported program, NAME.pt2."""
    weights: str | None = None
    """Pretrained weights: `DEFAULT`, a name such as `IMAGENET1K_V2`, a file, or an id of the Hugging Face hub."""
    compile: bool = False
    """Whether training and embeddings pass the model as a program of torch.compile; where that fails, the model passes
    as it is, and a message says why."""
    accept_license: str | None = None
    """The license of the weights that you accept, where it is neither Apache, MIT, BSD nor CC-BY."""

    @property
    def is_pretrained(self) -> bool:
        """Whether the first weights are read, and not drawn."""
        return self.weights is not None or self.name.endswith(PROGRAM)

    def __post_init__(self) -> None:
        for field in ("name", "weights", "accept_license"):
            value = getattr(self, field)
            if value is not None and not value.strip():
                raise ValueError(f"{field}: {value!r}: names nothing; give a name, or leave {field} out")
        if self.name in (TORCHVISION, TIMM):
            raise ValueError(f"name: {self.name!r}: names no model; say, for example, {self.name}resnet50")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """How features are made, and what becomes of those of a pretrained model."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    pca: int | None = None
    """Principal components that a frozen embedding is reduced to; null: it stays as it is."""
    tokens: TokenRule | None = None
    """How a transformer's tokens become one row: `mean` of the patches, `cls`, or both; null: taps take the mean,
    a frozen embedding is what the model's own head takes."""
    precision: Precision | None = None
    """What passes over the pool, and those of embeddings, compute in: `float32`, `tf32` (of a GPU), `mixed` (bfloat16
    where the device has it, else float16), `bfloat16` or `float16`; null: as torch has it. Picks under the last three
    are ranked again by passes in float32."""

    def __post_init__(self) -> None:
        if self.pca is not None and not 1 <= self.pca <= MOST_COMPONENTS:
            raise ValueError(f"pca = {self.pca}; give 1 to {MOST_COMPONENTS:,}, or null")


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
        LINEAR: ModelEntry("fkal.models.registry:linear", "linear softmax, for own embeddings", (FROZEN_TAP,)),
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


def usual_taps(name: str, layers: Layers = "all") -> tuple[str, ...]:
    """The taps of a model that nobody named others for; none where the model is unknown.

    They are those of the paper, of the package that offers the model, or the last two stages of a library's model.
    A frozen model has one tap. timm, and with it torch, is imported for models of timm that are not frozen.
    """
    if layers == "frozen":
        return (FROZEN_TAP,)
    if name in MODELS:
        return MODELS[name].taps
    plugins = offered_models()
    if name in plugins:
        entry: ModelEntry = plugins[name].load()
        return tuple(entry.taps)
    if name.startswith(TIMM):
        taps: tuple[str, ...] = resolved("fkal.models.timm_models:usual_taps")(name.removeprefix(TIMM))
        return taps
    plain = name.removeprefix(TORCHVISION)
    return next((taps for start, taps in TORCHVISION_TAPS.items() if plain.startswith(start)), ())


def offered_models() -> Mapping[str, EntryPoint]:
    """Models of other packages by name."""
    return offered(ENTRY_POINTS)


def known_model(name: str) -> str:
    """The name itself. Raises ValueError for one that no registry has.

    torchvision or timm, and with it torch, is imported for names that are neither built in nor offered by a package.
    """
    if name in MODELS or name in offered_models() or name.endswith(PROGRAM):
        return name
    if name.startswith(TIMM):
        resolved("fkal.models.timm_models:known")(name.removeprefix(TIMM))
        return name
    import torchvision

    theirs = torchvision.models.list_models(module=torchvision.models)
    if name.removeprefix(TORCHVISION) in theirs:
        return name
    known = [*MODELS, *offered_models(), *theirs, *(f"{TORCHVISION}{each}" for each in theirs)]
    raise ValueError(f"unknown model {name!r}; {did_you_mean(name, known)}see `fkal list models`")
