"""The images that experiments were made with, where they are at hand."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fkal.data.datasets import Dataset, load
from fkal.data.errors import CorruptData, MissingData
from fkal.data.settings import DataConfig
from fkal.report.experiments import Finished


def dataset_of(finished: Sequence[Finished], data_root: Path | None) -> Dataset | str:
    """The images of experiments that share them, or why there are none."""
    if not finished:
        return "curves alone were read"
    config = finished[0].outcome.config.data
    digests = {each.split.data_digest for each in finished if each.split}
    return images_at_hand(config if data_root is None else replace(config, root=str(data_root)), digests)


def images_at_hand(config: DataConfig, digests: Collection[str]) -> Dataset | str:
    """The images that have one of these digests, any if there are none; or why they are not here."""
    dataset = _loaded(config)
    if not isinstance(dataset, str) and digests and set(digests) != {dataset.digest}:
        return f"the images of {dataset.name} here are others than those of the experiments"
    return dataset


@cache
def _loaded(config: DataConfig) -> Dataset | str:
    """Nothing is downloaded."""
    try:
        return load(config, download=False)
    except (MissingData, CorruptData) as error:
        return f"the images are not at hand ({' '.join(str(error).split())})"
