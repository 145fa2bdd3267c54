"""Models of torchvision with its published weights, or with those of a file."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from fkal.errors import ConfigError, MissingWeights, did_you_mean, first_line
from fkal.models.licenses import NOT_STATED, refuse_unaccepted
from fkal.models.pretrained import Inputs, Pretrained
from fkal.models.registry import head_name, resnet10, resnet18
from fkal.models.settings import DEFAULT_WEIGHTS, TORCHVISION, ModelConfig, known_model
from fkal.models.weights_files import checksum, is_file, read_weights

OWN_BUILDERS = {"resnet10": resnet10, "resnet18": resnet18}
"""Our own models in the names of torchvision's weights."""

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Models whose published weights have heads for training alone, and expect images normalised for other models."""


def pretrained_torchvision(config: ModelConfig) -> Pretrained:
    """A model by name, `torchvision:` before it or not.

    Raises:
        ConfigError: The name or the weights are unknown, the weights are another model's, or their license has to be
            accepted and was not.
        MissingWeights: The weights are not on this machine and cannot be downloaded.
    """
    name = known_model(config.name).removeprefix(TORCHVISION)
    weights = config.weights or DEFAULT_WEIGHTS
    license_name = NOT_STATED if is_file(weights) else str(_named(name, weights).meta.get("license", NOT_STATED))
    refuse_unaccepted(config.name, license_name, config.accept_license)  # before the download
    state = read_weights(weights) if is_file(weights) else _published(name, _named(name, weights))
    inputs, own_size = _inputs(name, weights), _image_size(state)
    return Pretrained(
        name=config.name,
        model=_built(name, state),
        inputs=inputs if own_size is None else replace(inputs, size=own_size),
        digest=checksum(state),
        license=license_name,
    )


def is_here(config: ModelConfig) -> bool:
    """Whether the published weights are in torch's folder of checkpoints.

    Raises ConfigError for a name or weights that are unknown.
    """
    name = known_model(config.name).removeprefix(TORCHVISION)
    return _checkpoint(_named(name, config.weights or DEFAULT_WEIGHTS)).is_file()


def _checkpoint(weights: WeightsEnum) -> Path:
    """Where torch keeps the file that it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name


def _choices(name: str) -> Mapping[str, WeightsEnum]:
    """Published weights by name; none for a model that torchvision has no weights for."""
    try:
        kinds = torchvision.models.get_model_weights(name)
    except ValueError:
        return {}
    return dict(kinds.__members__)


def _named(name: str, weights: str) -> WeightsEnum:
    known = _choices(name)
    if weights in known:
        return known[weights]
    if not known:
        raise ConfigError(f"model.weights = {weights!r}: nobody published weights of {name}; name a file of your own")
    raise ConfigError(
        f"model.weights = {weights!r}: not known for {name}; {did_you_mean(weights, known)}"
        f"give one of {', '.join(known)}, or the file of a state dict"
    )


def _published(name: str, weights: WeightsEnum) -> dict[str, Tensor]:
    """Downloaded once, into torch's folder of checkpoints."""
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError) as error:
        file = _checkpoint(weights)
        raise MissingWeights(
            f"model.weights = {weights.name} of {name}: cannot be downloaded ({first_line(error)}); bring {file.name} "
            f"from {weights.url} and put it into {file.parent}, or set model.weights to its path"
        ) from error
    except RuntimeError as error:
        raise ConfigError(f"model.weights = {weights.name} of {name}: {first_line(error)}; remove that file") from error


def _built(name: str, state: dict[str, Tensor]) -> nn.Module:
    """With as many classes as the weights have. Raises ConfigError for weights of another model."""
    state = {key: value for key, value in state.items() if not key.startswith(AUXILIARY.get(name, ("\0",)))}
    image_size = _image_size(state) if name.startswith("vit_") else None
    model = _random(name, 1000, image_size)
    try:
        head = head_name(model)
    except ValueError as error:
        raise ConfigError(f"model.name = {name!r}: {error}; take another model") from error
    bias = state.get(f"{head}.bias")
    if bias is not None and len(bias) != 1000:
        model = _random(name, len(bias), image_size)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problem = [line.strip() for line in str(error).splitlines()][1:2]
        raise ConfigError(
            f"model.weights: not those of {name} ({' '.join(problem)[:200]}); name the model that they were saved from"
        ) from error
    return model.eval()


def _image_size(state: dict[str, Tensor]) -> int | None:
    """Pixels per side that a vision transformer of torchvision has positions for; None of other models."""
    positions, patches = state.get("encoder.pos_embedding"), state.get("conv_proj.weight")
    if positions is None or patches is None or (positions.dim(), patches.dim()) != (3, 4) or positions.shape[1] < 2:
        return None
    return math.isqrt(positions.shape[1] - 1) * patches.shape[-1]


def _random(name: str, n_classes: int, image_size: int | None) -> nn.Module:
    if name in OWN_BUILDERS:
        return OWN_BUILDERS[name]((3, 224, 224), n_classes)
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ConfigError(f"model.weights: {name} takes none, since nobody published any; leave model.weights out")
    options: dict[str, bool | int] = {}
    if name in AUXILIARY:
        options = {"aux_logits": False, "transform_input": True, "init_weights": False}
    if image_size is not None:
        options = {"image_size": image_size}
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=n_classes, **options)
    return model


def _inputs(name: str, weights: str) -> Inputs:
    """Those of the weights; of a file those of the model's default weights."""
    known = _choices(name)
    chosen = known.get(weights) or known.get(DEFAULT_WEIGHTS)
    if chosen is None:
        return Inputs()
    made = chosen.transforms()
    (size,) = made.crop_size
    return Inputs(size, made.interpolation.value, tuple(made.mean), tuple(made.std))
