"""The files that experiments share, made ahead: splits, pretrained weights, descriptors."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fkal.config.schema import Config, ConfigError
from fkal.engine.progress import Progress
from fkal.experiment.experiment import Experiment, prepare, prepare_split
from fkal.experiment.names import bias_name, dataset_name
from fkal.notify import PLAIN, Display, ShownBy
from fkal.runner.out_folder import refuse_unusable
from fkal.runner.plan import RayCluster, refuse_wrong_cluster

T = TypeVar("T")


def split(configs: Sequence[Config], *, out: Path, display: Display = PLAIN) -> list[dict[str, Any]]:
    """Draw the splits; returns their files and what is in them."""
    refuse_unusable(out)
    by_path: dict[str, dict[str, Any]] = {}  # methods share a split
    for config in configs:
        drawn, path, classes = prepare_split(config, out, display.notify)
        by_path[str(path)] = {
            "dataset": dataset_name(config.data),
            "bias": bias_name(config.bias),
            "seed": config.seed,
            "digest": drawn.digest,
            "path": str(path),
            "cut_classes": list(drawn.cut),
            "classes": list(classes),
            "class_counts": dict(drawn.class_counts),
        }
    return list(by_path.values())


def pretrain(configs: Sequence[Config], *, out: Path, display: Display = PLAIN) -> list[dict[str, Any]]:
    """Pretrain each theta^0 that is not there yet; returns the files of weights, and which were there."""
    refuse_unusable(out)
    answers: list[dict[str, Any]] = []
    for config in configs:
        if config.model.is_pretrained:
            raise ConfigError(
                f"model.name = {config.model.name!r}: its weights are there; there is nothing to pretrain"
            )
        if not config.pretrains:
            raise ConfigError("pretrain.task = 'none': there is nothing to pretrain; set pretrain.task=rotation")
        experiment = prepare(config, out, display.notify)
        _, epochs = _shown(f"{dataset_name(config.data)} seed {config.seed}", experiment.theta_0(), display.one)
        answers.append(
            {
                "dataset": dataset_name(config.data),
                "seed": config.seed,
                "task": config.pretrain.task,
                "paths": [str(path) for path in experiment.weights_paths],
                "was_there": epochs == 0,
            }
        )
    return answers


def embed(
    configs: Sequence[Config], *, out: Path, cluster: RayCluster | None = None, display: Display = PLAIN
) -> list[dict[str, Any]]:
    """Keep what the first rounds read of theta^0; returns the folders of their descriptors.

    With `cluster` each file that is missing is a task of Ray.
    """
    refuse_unusable(out)
    if cluster is None:
        return _embedded(configs, out, display, lambda experiment: experiment)
    refuse_wrong_cluster(cluster)
    from fkal.runner.ray_executor import RayShards

    with RayShards(cluster, configs, out) as shards:
        return _embedded(configs, out, display, lambda experiment: replace(experiment, elsewhere=shards.of(experiment)))


def _embedded(
    configs: Sequence[Config], out: Path, display: Display, placed: Callable[[Experiment], Experiment]
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    for config in configs:
        experiment = placed(prepare(config, out, display.notify))
        folders, steps = _shown(experiment.shown_name, experiment.first_descriptors(), display.one)
        answers.append(
            {
                "experiment": experiment.shown_name,
                "paths": [str(folder) for folder in folders],
                "megabytes": round(sum(size_of(folder) for folder in folders) / 1e6, 1),
                "were_there": steps == 0,
            }
        )
    return answers


def _shown(name: str, work: Generator[Progress, None, T], shown_by: ShownBy) -> tuple[T, int]:
    """What the work returns, and how many steps it took."""
    steps = 0
    with shown_by(name) as bars:
        while True:
            try:
                bars.show(next(work))
            except StopIteration as end:
                return end.value, steps
            steps += 1


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
