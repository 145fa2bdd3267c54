"""`fkal split`, `fkal pretrain`, `fkal descriptors`: the files that experiments share, made ahead."""

import tempfile
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.table import Table

from fkal.cli.progress import Bars
from fkal.cli.terminal import console, echo, echo_json, say
from fkal.config.schema import Config, ConfigError
from fkal.engine.progress import Progress
from fkal.experiment.device import deterministic
from fkal.experiment.experiment import prepare, prepare_split
from fkal.experiment.names import bias_name, dataset_name

T = TypeVar("T")


def refuse_unusable(out: Path) -> None:
    """Raises ConfigError unless files can be written under --out."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {out}: nothing can be written there ({error.strerror}); name another folder"
        ) from error


def split(configs: Sequence[Config], *, out: Path, as_json: bool) -> list[Path]:
    """Draw the splits and say what is in them; returns their files."""
    refuse_unusable(out)
    by_path: dict[str, dict[str, Any]] = {}  # methods share a split
    for config in configs:
        drawn, path = prepare_split(config, out, say)
        by_path[str(path)] = {
            "dataset": dataset_name(config.data),
            "bias": bias_name(config.bias),
            "seed": config.seed,
            "digest": drawn.digest,
            "path": str(path),
            "cut_classes": list(drawn.cut),
            "class_counts": dict(drawn.class_counts),
        }
    answers = list(by_path.values())
    if as_json:
        echo_json({"splits": answers})
    else:
        _print_splits(answers)
    return [Path(answer["path"]) for answer in answers]


def _print_splits(answers: Sequence[Mapping[str, Any]]) -> None:
    for answer in answers:
        echo(
            f"{answer['dataset']} {answer['bias']} seed {answer['seed']}: {answer['path']} (digest {answer['digest']})"
        )
        console().print(_counts_table(answer["class_counts"]))


def pretrain(configs: Sequence[Config], *, out: Path, as_json: bool) -> list[Path]:
    """Pretrain each theta^0 that is not there yet; returns the files of weights."""
    refuse_unusable(out)
    answers: list[dict[str, Any]] = []
    for config in configs:
        if config.pretrain.task == "none":
            raise ConfigError("pretrain.task = 'none': there is nothing to pretrain; set pretrain.task=rotation")
        experiment = prepare(config, out, say)
        deterministic(config.threads)
        _, epochs = _shown(f"{dataset_name(config.data)} seed {config.seed}", experiment.theta_0())
        answers.append(
            {
                "dataset": dataset_name(config.data),
                "seed": config.seed,
                "task": config.pretrain.task,
                "paths": [str(path) for path in experiment.weights_paths],
                "was_there": epochs == 0,
            }
        )
    if as_json:
        echo_json({"pretrained": answers})
    else:
        for answer in answers:
            state = "was there" if answer["was_there"] else "made"
            echo(f"{answer['dataset']} seed {answer['seed']}: {', '.join(answer['paths'])} ({state})")
    return [Path(path) for answer in answers for path in answer["paths"]]


def descriptors(configs: Sequence[Config], *, out: Path, as_json: bool) -> list[Path]:
    """Keep what the first iterations read of theta^0; returns the folders of their descriptors."""
    refuse_unusable(out)
    answers: list[dict[str, Any]] = []
    for config in configs:
        experiment = prepare(config, out, say)
        folders, steps = _shown(experiment.name, experiment.first_descriptors())
        answers.append(
            {
                "experiment": experiment.name,
                "paths": [str(folder) for folder in folders],
                "megabytes": round(sum(size_of(folder) for folder in folders) / 1e6, 1),
                "were_there": steps == 0,
            }
        )
    if as_json:
        echo_json({"descriptors": answers})
    else:
        for answer in answers:
            echo(_told(answer))
    return [Path(path) for answer in answers for path in answer["paths"]]


def _shown(name: str, work: Generator[Progress, None, T]) -> tuple[T, int]:
    """What the work returns, and how many steps it took."""
    steps = 0
    with Bars(name) as bars:
        while True:
            try:
                bars.show(next(work))
            except StopIteration as end:
                return end.value, steps
            steps += 1


def _told(answer: Mapping[str, Any]) -> str:
    if not answer["paths"]:
        return f"{answer['experiment']}: its first iteration reads no descriptors"
    state = "were there" if answer["were_there"] else "made"
    return f"{answer['experiment']}: {', '.join(answer['paths'])} ({answer['megabytes']} MB, {state})"


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _counts_table(counts: dict[str, list[int]]) -> Table:
    classes = len(next(iter(counts.values())))
    if classes > 20:
        table = Table("part", "images", "fewest a class", "most a class", box=box.SIMPLE)
        for part, values in counts.items():
            table.add_row(part, str(sum(values)), str(min(values)), str(max(values)))
        return table
    table = Table("part", "images", *(f"of {k}" for k in range(classes)), box=box.SIMPLE)
    for part, values in counts.items():
        table.add_row(part, str(sum(values)), *map(str, values))
    return table
