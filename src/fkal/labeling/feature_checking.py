"""Whether the features of a pretrained model tell the classes of a project's validation images."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from fkal.config.schema import Config
from fkal.core.randomness import stream
from fkal.core.standardising import Standardising
from fkal.data.datasets import Dataset
from fkal.data.settings import DataConfig
from fkal.engine.embedding import Embedding
from fkal.engine.feature_check import feature_check
from fkal.engine.head_training import LabeledRows
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.experiment.backbone import backbone_of, feature_check_line, seen_dataset
from fkal.experiment.device import device_named
from fkal.labeling.project import Project
from fkal.labeling.project_dataset import validation_dataset
from fkal.models.pretrained import weights_are_here
from fkal.notify import Display

LATER = "feature check: comes with the first fkal select, which fetches the weights"


def features_checked(project: Project, config: Config, display: Display) -> str | None:
    """One line on a frozen model, `LATER` where its weights are not here; None where nothing can be checked."""
    if not config.is_frozen or not len(project.validation):
        return None
    if not weights_are_here(config.model):
        return LATER
    work = _checked(project, config)
    with display.one("feature check") as shown:
        while True:
            try:
                shown.show(next(work))
            except StopIteration as done:
                line: str = done.value
                return line


def _checked(project: Project, config: Config) -> Generator[Progress, None, str]:
    """By the validation images alone; the pool is embedded by the first selection."""
    own = config.model_copy(update={"data": replace(config.data, name="folder", folder=".")})
    backbone = backbone_of(own)
    assert backbone is not None and backbone.embedder is not None

    def load(data: DataConfig) -> Dataset:
        return validation_dataset(
            project, config.model_copy(update={"data": replace(data, name=project.name, folder=None)})
        )

    seen = seen_dataset(own, backbone, load)
    assert seen.validation is not None
    embedding = Embedding(backbone.embedder, Meter(device_named(config.device)))
    rows = yield from embedding.rows(seen.train, seen.validation, what="validation images")
    z = Standardising.fitted(rows, config.features.pca)(rows)
    labels = seen.train.labels[seen.validation]
    found = feature_check(LabeledRows(z, labels), stream(config.seed, "feature_check"), seen.groups)
    return feature_check_line(found, project.name, len(labels))
