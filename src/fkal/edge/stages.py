"""The pipeline's stages: each does what its plan file says, in the scratch folder, and publishes what is whole."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from fkal.config import Config
from fkal.edge import preparing, running
from fkal.edge.planning import planned, planned_methods
from fkal.edge.progress import say
from fkal.edge.publishing import (
    DESCRIPTORS,
    PRETRAINED,
    SPLITS,
    adopt,
    adopt_experiment,
    publish_cell,
    publish_files,
    published,
)
from fkal.edge.state import StateDirectory
from fkal.experiment import prepare


def split(plan: Path, out: Path) -> None:
    _files_of(plan, out, SPLITS, lambda configs: preparing.split(configs, out=out, as_json=False))


def pretrain(plan: Path, out: Path) -> None:
    """Without pretraining there is nothing to make, and nothing is published."""

    def weights(configs: Sequence[Config]) -> list[Path]:
        if configs[0].pretrain.task == "none":
            return []
        return preparing.pretrain(configs, out=out, as_json=False)

    _files_of(plan, out, PRETRAINED, weights)


def descriptors(plan: Path, out: Path) -> None:
    """A folder for each method, so that an experiment depends on its own; one that needs none has an empty one."""
    methods = planned_methods(plan)
    adopt(methods[0].root, out, say)
    shutil.rmtree(methods[0].root / DESCRIPTORS / Path(methods[0].cell).parent, ignore_errors=True)
    for work in methods:
        folders = preparing.descriptors(work.configs, out=out, as_json=False)
        files = [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*.safetensors"))]
        publish_files(files, out / DESCRIPTORS, work.root / DESCRIPTORS / work.cell)


def experiment(plan: Path, out: Path, tracking: str | None, jobs: int) -> None:
    work = planned(plan)
    adopt(work.root, out, say)
    publish_cell(running.run(work.configs, out=out, tracking=tracking, jobs=jobs), work.cell, work.root, out)


def sync(root: Path, out: Path, tracking: str | None) -> None:
    """Bring the scratch folder and the tracking store up to what is published; nothing is computed."""
    known = list(published(root))
    for one in known:
        adopt_experiment(one, root, out, say)
        ready = replace(prepare(one.config, out, say), fingerprint=one.fingerprint)
        finished = StateDirectory(out, one.fingerprint).finished_count
        if finished < ready.rounds:
            say(f"{one.folder}: has {finished} of {ready.rounds} iterations, and is left out; run: dvc repro")
            continue
        running.run_one(ready, out, tracking)
    typer.echo(f"{len(known)} experiments are published under {root}")


def _files_of(plan: Path, out: Path, kind: str, make: Callable[[Sequence[Config]], list[Path]]) -> None:
    work = planned(plan)
    adopt(work.root, out, say)
    publish_files(make(work.configs), out / kind, work.root / kind / work.cell)
