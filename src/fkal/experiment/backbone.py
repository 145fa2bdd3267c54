"""The pretrained model of an experiment: loaded once for all experiments of a call, and the images as it takes them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from fkal.config.schema import Config, ConfigError, configured
from fkal.data.datasets import Dataset
from fkal.data.scaling import View, refuse_unless_for_three_channels, scaled_dataset
from fkal.data.settings import EMBEDDINGS, OF_IMAGES, DataConfig
from fkal.engine.feature_check import FeatureCheck
from fkal.errors import shortened
from fkal.models.licenses import refuse_unaccepted
from fkal.models.pretrained import Embedder, Inputs, Pretrained, pretrained
from fkal.models.settings import LINEAR, ModelConfig, TokenRule


@dataclass(frozen=True)
class Backbone:
    """A pretrained model, the images that it takes, and, where it is frozen, what embeds them."""

    pretrained: Pretrained
    view: View
    embedder: Embedder | None

    @property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        return self.pretrained.digest

    @property
    def license(self) -> str:
        return self.pretrained.license

    def width(self, shape: tuple[int, int, int]) -> int:
        """Features of an embedding of images of this shape. Raises ConfigError for images that cannot pass."""
        embedder = self.embedder
        assert embedder is not None
        return configured("model.name", lambda _: embedder.width(shape), self.pretrained.name)


def backbone_of(config: Config) -> Backbone | None:
    """None for a model whose first weights are drawn. Raises ConfigError for what cannot be frozen or is not free."""
    if config.data.name == EMBEDDINGS:
        _refuse_images_of_embeddings(config)
    if not config.model.is_pretrained:
        if config.is_frozen and config.data.name != EMBEDDINGS:
            raise ConfigError(
                f"train.layers = 'frozen': {config.model.name} has random weights, and nothing else would learn; "
                "give --backbone NAME, or set model.weights"
            )
        return None
    found = _loaded(config.model)
    refuse_unaccepted(config.model.name, found.license, config.model.accept_license)
    return Backbone(
        found,
        view_of(config.data, config.model),
        _embedder(config.model, config.features.tokens) if config.is_frozen else None,
    )


def _refuse_images_of_embeddings(config: Config) -> None:
    """Raises ConfigError for what only images could have: a network that they pass, a size, tokens."""
    if config.model.name != LINEAR or not config.is_frozen:
        raise ConfigError(
            f"data.name = {EMBEDDINGS!r}: own embeddings take model.name={LINEAR} and train.layers=frozen, which "
            f"--embeddings sets; here are {config.model.name} and {config.train.layers}"
        )
    of_images = {f"data.{key}": getattr(config.data, key) for key in OF_IMAGES}
    for key, value in {**of_images, "features.tokens": config.features.tokens}.items():
        if value is not None:
            raise ConfigError(f"{key} = {shortened(value)}: own embeddings are taken as they are; leave it out")


def as_embeddings(config: Config) -> Config:
    """Without the settings of images, which own embeddings had and ignored in earlier versions."""
    unset: dict[str, Any] = dict.fromkeys(OF_IMAGES)
    data = replace(config.data, **unset)
    return config.model_copy(update={"data": data, "features": replace(config.features, tokens=None)})


def view_of(data: DataConfig, model: ModelConfig) -> View:
    """The images of a pretrained model. Raises ConfigError for a model whose images fkal cannot make."""
    view = configured("model.name", lambda _: _view(data, _loaded(model).inputs), model.name)
    for key, values in (("data.mean", view.mean), ("data.std", view.std)):
        configured(key, refuse_unless_for_three_channels, values)
    return view


def _view(data: DataConfig, made_for: Inputs) -> View:
    return View.of(data, size=made_for.size, interpolation=made_for.interpolation, mean=made_for.mean, std=made_for.std)


def seen_dataset(config: Config, backbone: Backbone | None, load: Callable[[DataConfig], Dataset]) -> Dataset:
    """The dataset as the model takes it; `load` reads one."""
    return load(config.data) if backbone is None else scaled_dataset(config.data, backbone.view, load)


def about_weights(backbone: Backbone) -> str:
    """One line on whose work this is."""
    return f"weights of {backbone.pretrained.name}: license {backbone.license}, SHA-256 {backbone.digest[:12]}..."


def feature_check_line(found: FeatureCheck, of: str, images: int) -> str:
    """The feature check for people, with a warning where selection will hardly help."""
    if found.balanced_accuracy is None:
        return f"feature check of {of}: not possible, as a class has a single validation image or a single group"
    figure = f"feature check of {of}: a head on {images} validation images has {100 * found.balanced_accuracy:.1f} %"
    line = f"{figure} balanced accuracy ({found.folds} folds)"
    if found.tells_classes:
        return line
    return (
        f"{line}; warning: these features hardly tell the classes, so selection will hardly help: take a stronger "
        "backbone or larger images first"
    )


@lru_cache(maxsize=2)
def _loaded(model: ModelConfig) -> Pretrained:
    return pretrained(model)


@lru_cache(maxsize=2)
def _embedder(model: ModelConfig, tokens: TokenRule | None) -> Embedder:
    try:
        return Embedder(_loaded(model), tokens)
    except ValueError as error:
        raise ConfigError(f"model.name = {model.name!r}: {error}") from error
