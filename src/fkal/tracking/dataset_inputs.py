"""The parts of an experiment's data as MLflow dataset inputs."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from fkal.data.datasets import Dataset
from fkal.data.digest import bytes_digest
from fkal.data.registry import DATASETS
from fkal.data.splits import PARTS, Split
from fkal.escaping import json_text

COUNTED = 1000  # classes, beyond which a profile has no counts by class


class HasData(Protocol):
    """The part of an experiment that is used here."""

    @property
    def dataset(self) -> Dataset: ...

    @property
    def split(self) -> Split: ...

    @property
    def tags(self) -> Mapping[str, str]: ...


def dataset_inputs(experiment: HasData) -> list[DatasetInput]:
    """Pool, validation and test. The digest covers images and indices: equal ones are equal data."""
    return [_input(experiment, part) for part in PARTS]


def measured_dataset(experiment: HasData, measured: str) -> LoggedDataset:
    """The part that accuracies are measured on; a holdout is drawn from the validation images."""
    part = "test" if measured == "test" else "validation"
    return _input(experiment, part).dataset


def _input(experiment: HasData, part: str) -> DatasetInput:
    dataset, split = experiment.dataset, experiment.split
    images = dataset.test if part == "test" else dataset.train
    indices = getattr(split, part)
    counts = images.labels[indices].bincount(minlength=len(dataset.classes)).tolist()
    entry = DATASETS.get(dataset.name)
    source = {
        "dataset": experiment.tags["dataset"],
        "origin": entry.origin if entry else "",
        "part": part,
        "drawn_from": "test" if part == "test" else "train",
        "data_digest": images.digest,
        "split_digest": split.digest,
    }
    profile: dict[str, Any] = {"num_rows": len(indices), "classes": len(counts)}
    if len(counts) <= COUNTED:
        profile["class_counts"] = dict(zip(dataset.classes, counts, strict=True))
    return DatasetInput(
        LoggedDataset(
            name=f"{experiment.tags['dataset']}/{part}",
            digest=bytes_digest([images.digest.encode(), indices.to(torch.int64).numpy().tobytes()]),
            source_type="code",  # drawn by a program from a dataset by name
            source=json_text({"tags": source}),
            profile=json_text(profile),
        ),
        tags=[InputTag(MLFLOW_DATASET_CONTEXT, part)],
    )
