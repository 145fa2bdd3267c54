"""`fkal split` and `fkal pretrain`: the files that experiments share, made ahead."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from fkal.config import Config
from fkal.edge.progress import Bars, say
from fkal.experiment import bias_name, deterministic, prepare, prepare_split


def split(configs: Sequence[Config], *, out: Path, as_json: bool) -> None:
    """Draw the splits and say what is in them."""
    answers: list[dict[str, Any]] = []
    for config in configs:
        drawn, path = prepare_split(config, out, say)
        answers.append(
            {
                "dataset": config.data.name,
                "bias": bias_name(config.bias),
                "seed": config.seed,
                "digest": drawn.digest,
                "path": str(path),
                "cut_classes": list(drawn.cut),
                "class_counts": dict(drawn.class_counts),
            }
        )
    if as_json:
        typer.echo(json.dumps({"splits": answers}))
        return
    for answer in answers:
        typer.echo(
            f"{answer['dataset']} {answer['bias']} seed {answer['seed']}: {answer['path']} (digest {answer['digest']})"
        )
        Console().print(_counts_table(answer["class_counts"]))


def pretrain(configs: Sequence[Config], *, out: Path, as_json: bool) -> None:
    """Pretrain each theta^0 that is not there yet."""
    answers = []
    for config in configs:
        experiment = prepare(config, out, say)
        was_there = experiment.weights_path.exists()
        deterministic(config.threads)
        with Bars(experiment.name) as bars:
            for progress in experiment.theta_0():
                bars.show(progress)
        answers.append(
            {
                "dataset": config.data.name,
                "seed": config.seed,
                "task": config.pretrain.task,
                "path": str(experiment.weights_path),
                "was_there": was_there,
            }
        )
    if as_json:
        typer.echo(json.dumps({"pretrained": answers}))
        return
    for answer in answers:
        state = "was there" if answer["was_there"] else "made"
        typer.echo(f"{answer['dataset']} seed {answer['seed']}: {answer['path']} ({state})")


def _counts_table(counts: dict[str, list[int]]) -> Table:
    classes = len(next(iter(counts.values())))
    if classes > 20:
        table = Table("part", "images", "fewest a class", "most a class", box=box.SIMPLE)
        for part, values in counts.items():
            table.add_row(part, str(sum(values)), str(min(values)), str(max(values)))
        return table
    table = Table("part", "images", *(f"class {k}" for k in range(classes)), box=box.SIMPLE)
    for part, values in counts.items():
        table.add_row(part, str(sum(values)), *map(str, values))
    return table
