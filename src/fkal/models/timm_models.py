"""Models of timm, the only module that imports it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fkal.errors import ConfigError, MissingPackage, MissingWeights, did_you_mean, first_line
from fkal.models.licenses import NOT_STATED, refuse_unaccepted
from fkal.models.pretrained import Inputs, Pretrained
from fkal.models.settings import DEFAULT_WEIGHTS, TIMM, ModelConfig
from fkal.models.taps import POOLED_STAGES
from fkal.models.weights_files import checksum, is_file, read_weights

try:
    import timm
    from huggingface_hub import try_to_load_from_cache
    from timm.data.config import resolve_model_data_config
    from timm.models import is_model, list_models
except ImportError as error:
    raise MissingPackage("models named timm:... need timm; install it: pip install 'fkal[timm]'") from error

UNKNOWN = ("unknown", "")
HUB = "hf-hub:"
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""The names that weights have on the hub."""


def known(name: str) -> str:
    """The name itself. Raises ValueError for one that timm does not have."""
    if not is_model(name):
        plain = name.partition(".")[0]
        raise ValueError(f"timm has no model {name!r}; {did_you_mean(plain, list_models())}see timm.list_models()")
    return name


def built(name: str, channels: int, n_classes: int) -> nn.Module:
    """The model with random weights. Raises ValueError for a name that timm does not have."""
    model: nn.Module = timm.create_model(
        known(name), pretrained=False, in_chans=channels, num_classes=n_classes, **_any_size(_blueprint(name))
    )
    return model


@lru_cache(maxsize=32)
def usual_taps(name: str) -> tuple[str, ...]:
    """The last two stages; none for a model that timm does not have, or whose stages are no layers of it."""
    if not is_model(name):
        return ()
    model = _blueprint(name)
    stages = [str(each["module"]) for each in getattr(model, "feature_info", None) or []][-2:]
    if getattr(model, "output_fmt", "") == "NHWC":
        stages = [POOLED_STAGES]
    layers = {layer for layer, _ in model.named_modules()}
    return tuple(dict.fromkeys(stages)) if layers.issuperset(stages) else ()


def pretrained_timm(config: ModelConfig) -> Pretrained:
    """A model `timm:NAME` with published weights, with those of a file, or of the Hugging Face hub.

    Raises:
        ConfigError: The name or the weights are unknown, the weights are another model's, or their license has to be
            accepted and was not.
        MissingWeights: The weights are not on this machine and cannot be downloaded.
    """
    name, weights = _known(config), config.weights or DEFAULT_WEIGHTS
    if not is_file(weights):
        _refuse_before_download(config, _source(name, weights))
    model = _of_file(name, read_weights(weights)) if is_file(weights) else _published(name, weights)
    made_for = resolve_model_data_config(model)
    return Pretrained(
        name=config.name,
        model=model.eval(),
        inputs=Inputs(made_for["input_size"][-1], made_for["interpolation"], made_for["mean"], made_for["std"]),
        digest=checksum(model.state_dict()),
        license=_license(_settings(model)),
        sets_head=not _ends_in_its_head(model),
    )


def _ends_in_its_head(model: nn.Module) -> bool:
    """Whether its one head is a linear layer, and the last one."""
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return bool(model.num_classes and linear) and linear[-1] == _settings(model).get("classifier")


def is_here(config: ModelConfig) -> bool:
    """Whether the published weights are in the hub's cache. Nothing is asked of a server.

    Raises ConfigError for a name or weights that are unknown.
    """
    name, weights = _known(config), config.weights or DEFAULT_WEIGHTS
    hub, _, revision = _source(name, weights).hub.partition("@")
    files = [try_to_load_from_cache(hub, file, revision=revision or None) for file in HUB_FILES]
    return any(isinstance(file, str) for file in files)


def _known(config: ModelConfig) -> str:
    try:
        return known(config.name.removeprefix(TIMM))
    except ValueError as error:
        raise ConfigError(f"model.name = {config.name!r}: {error}") from error


def _of_file(name: str, state: dict[str, Tensor]) -> nn.Module:
    """With as many classes as the weights have. Raises ConfigError for weights of another model."""
    blueprint = _blueprint(name)
    classes = _classes(_settings(blueprint).get("classifier"), state)
    overlay = {"state_dict": dict(state), "custom_load": False, **classes}
    try:
        with _quiet():
            model: nn.Module = timm.create_model(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **classes, **_any_size(blueprint)
            )
    except (RuntimeError, KeyError, AttributeError) as error:
        problem = " ".join(line.strip() for line in str(error).splitlines()[:2])[:200]
        raise ConfigError(
            f"model.weights: not those of timm:{name} ({problem}); name the model that they were saved from"
        ) from error
    return model


def _classes(classifier: str | tuple[str, ...] | None, state: dict[str, Tensor]) -> dict[str, Any]:
    """How many classes the weights tell; none where they have no head. Several heads stay as the model has them."""
    if not isinstance(classifier, str):
        return {}
    weight = state.get(f"{classifier}.weight")
    return {"num_classes": 0 if weight is None or not weight.dim() else len(weight)}


def _blueprint(name: str) -> nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"), _quiet():
        model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _any_size(blueprint: nn.Module) -> dict[str, Any]:
    """What makes a transformer of patches take images of all sizes; its positions are interpolated for other ones."""
    return {"dynamic_img_size": True} if hasattr(blueprint, "dynamic_img_size") else {}


def _settings(model: nn.Module) -> dict[str, Any]:
    """What timm knows of the weights."""
    settings: Any = model.pretrained_cfg
    return dict(settings)


def _license(settings: dict[str, Any]) -> str:
    stated = settings.get("license") or ""
    return NOT_STATED if stated in UNKNOWN else str(stated)


def _refuse_before_download(config: ModelConfig, source: "_Source") -> None:
    """Nobody downloads what may not be used. timm does not know the license of an id of the hub beforehand."""
    settings = None if source.overlay else timm.get_pretrained_cfg(source.tagged)
    if settings is not None:
        refuse_unaccepted(config.name, _license(settings.to_dict()), config.accept_license)


def _published(name: str, weights: str) -> nn.Module:
    """`DEFAULT`, the tag of published weights, or an id of the hub; downloaded once, into the hub's own cache."""
    source = _source(name, weights)
    try:
        with _quiet():
            model: nn.Module = timm.create_model(
                source.tagged,
                pretrained=True,
                pretrained_cfg_overlay=source.overlay,
                **_any_size(_blueprint(name)),
            )
    except RuntimeError as error:
        raise ConfigError(f"model.weights = {weights!r}: {first_line(error)}; name a file of weights") from error
    except Exception as error:  # what the hub's client raises without a network has no common class
        raise MissingWeights(
            f"model.weights = {weights!r} of timm:{name}: cannot be downloaded ({first_line(error)}); bring "
            f"model.safetensors of {source.hub} from the Hugging Face hub, and set model.weights to its path"
        ) from error
    return model


class _Source(NamedTuple):
    """Weights as timm names them, where the hub has them, and what replaces timm's own settings."""

    tagged: str
    hub: str
    overlay: dict[str, Any] | None = None


def _source(name: str, weights: str) -> _Source:
    if "/" in weights:
        hub = weights.removeprefix(HUB)
        return _Source(name, hub, {"hf_hub_id": hub, "url": None})
    tagged = name if weights == DEFAULT_WEIGHTS else f"{name.partition('.')[0]}.{weights}"
    return _Source(tagged, _hub_id(name, tagged, weights))


def _hub_id(name: str, tagged: str, weights: str) -> str:
    """Where the hub has these weights. Raises ConfigError for weights that timm does not know."""
    try:
        settings = timm.get_pretrained_cfg(tagged, allow_unregistered=False)
    except RuntimeError as error:
        tags = [each.partition(".")[2] for each in list_models(f"{name.partition('.')[0]}.*", pretrained=True)]
        raise ConfigError(
            f"model.weights = {weights!r}: timm has no such weights of {name}; give one of "
            f"{', '.join([DEFAULT_WEIGHTS, *tags])}, a file, or an id of the hub"
        ) from error
    return str((settings.hf_hub_id if settings else None) or f"timm/{tagged}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without timm's lines on keys that it left out, and the hub's on each of its retries."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
