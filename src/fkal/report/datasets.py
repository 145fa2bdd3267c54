"""The images that experiments were made with, where they are at hand."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from fkal.config.schema import Config
from fkal.data.datasets import Dataset, load
from fkal.data.errors import CorruptData, MissingData
from fkal.data.scaling import scaled_dataset
from fkal.data.settings import DataConfig
from fkal.errors import ConfigError, MissingPackage
from fkal.experiment.backbone import view_of
from fkal.models.pretrained import weights_are_here
from fkal.models.settings import ModelConfig
from fkal.report.experiments import Finished


def dataset_of(finished: Sequence[Finished], data_root: Path | None) -> Dataset | str:
    """The images of experiments that share them, or why there are none."""
    if not finished:
        return "curves alone were read"
    config = finished[0].outcome.config
    if data_root is not None:
        config = config.model_copy(update={"data": replace(config.data, root=str(data_root))})
    return images_at_hand(config, {each.split.data_digest for each in finished if each.split})


def images_at_hand(config: Config, digests: Collection[str]) -> Dataset | str:
    """Images as the model takes them that have one of these digests (any if there are none), or why there are none."""
    dataset = _loaded(config.data, config.model)
    if not isinstance(dataset, str) and digests and set(digests) != {dataset.digest}:
        return f"the images of {dataset.name} here are others than those of the experiments"
    return dataset


@cache
def _loaded(data: DataConfig, model: ModelConfig) -> Dataset | str:
    """Nothing is downloaded."""
    found = partial(load, download=False)
    try:
        if not model.is_pretrained:
            return found(data)
        if not weights_are_here(model):
            return f"the weights of {model.name}, which say how images are scaled, are not at hand"
        return scaled_dataset(data, view_of(data, model), found)
    except (MissingData, CorruptData, ConfigError, MissingPackage) as error:
        return f"the images are not at hand ({' '.join(str(error).split())})"
