"""The pipeline's stages: each does what its plan file says, in the scratch folder, and publishes what is whole."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import typer

from fkal.cli.exit import MissingRuns, SomeFailed
from fkal.cli.progress import say
from fkal.config.schema import ConfigError, Layer, merged
from fkal.data.errors import CorruptData, CorruptSplit, ForeignSplit, MissingData
from fkal.experiment.experiment import prepare
from fkal.pipeline.plan import Planned, planned, planned_methods
from fkal.pipeline.publish import (
    DESCRIPTORS,
    PRETRAINED,
    SPLITS,
    Published,
    publish_cell,
    publish_files,
    published_folders,
    read_published,
)
from fkal.pipeline.restore import adopt, adopt_experiment
from fkal.results.checkpoint import StateDirectory, StateInUse
from fkal.results.manifest import read_about
from fkal.runner import prepare as preparing
from fkal.runner import run as running

DATA_ERRORS = (MissingData, CorruptData, CorruptSplit, ForeignSplit)


def split(plan: Path, out: Path) -> None:
    work = planned(plan, "split")
    adopt(work.root, out, say)
    files = preparing.split(work.configs, out=out, as_json=False)
    publish_files(files, out / SPLITS, work.root / SPLITS / work.cell)


def pretrain(plan: Path, out: Path) -> None:
    """A folder for each method, since an ensemble needs weights that others do not; links to the same files."""
    made: dict[tuple[str, ...], list[Path]] = {}
    for work in _methods_of(plan, out, PRETRAINED):
        same = tuple(config.digest for config in work.configs)
        if same not in made:
            is_none = work.configs[0].pretrain.task == "none"
            made[same] = [] if is_none else preparing.pretrain(work.configs, out=out, as_json=False)
        publish_files(made[same], out / PRETRAINED, work.root / PRETRAINED / work.cell)


def descriptors(plan: Path, out: Path) -> None:
    """A folder for each method, so that an experiment depends on its own; one that needs none has an empty one."""
    for work in _methods_of(plan, out, DESCRIPTORS):
        folders = preparing.descriptors(work.configs, out=out, as_json=False)
        files = [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*.safetensors"))]
        publish_files(files, out / DESCRIPTORS, work.root / DESCRIPTORS / work.cell)


def _methods_of(plan: Path, out: Path, kind: str) -> Iterator[Planned]:
    """The work for each method; of what was published for this pair of dataset and ratio nothing stays."""
    methods = planned_methods(plan)
    adopt(methods[0].root, out, say)
    shutil.rmtree(methods[0].root / kind / Path(methods[0].cell).parent, ignore_errors=True)
    yield from methods


def experiment(plan: Path, out: Path, tracking: str | None, jobs: int, *, wait: bool = True) -> None:
    """Its curves are drawn by the report."""
    work = planned(plan, "experiment")
    adopt(work.root, out, say)
    outcomes = running.run(work.configs, out=out, tracking=tracking, jobs=jobs, draws=False, wait=wait)
    publish_cell(outcomes, work.cell, work.root, out, data=work.data)


def sync(root: Path, out: Path, tracking: str | None, data_root: Path | None = None) -> None:
    """Bring the scratch folder and the tracking store up to what is published; nothing is computed.

    Raises MissingRuns where nothing is published, SomeFailed where experiments are left out, and MissingData where
    no experiment's images are here.
    """
    left_out: dict[Path, Exception] = {}
    folders = list(published_folders(root))
    if not folders:
        raise MissingRuns(f"nothing is published under {root}; run: dvc pull, or dvc repro")
    for folder in folders:
        try:
            _sync(read_published(folder), root, out, tracking, data_root)
        except (ConfigError, StateInUse, *DATA_ERRORS) as error:
            left_out[folder] = error
    typer.echo(f"{len(folders) - len(left_out)} of {len(folders)} experiments published under {root} are tracked")
    missing = [error for error in left_out.values() if isinstance(error, MissingData)]
    if missing and len(missing) == len(folders):
        raise missing[0]
    if left_out:
        lines = [f"{folder}: {error}" for folder, error in left_out.items()]
        raise SomeFailed(f"{len(left_out)} of {len(folders)} experiments are left out:\n" + "\n".join(lines))


def _sync(one: Published, root: Path, out: Path, tracking: str | None, data_root: Path | None) -> None:
    from fkal.tracking.experiment_run import TrackedRun

    place = {} if data_root is None else {"data": {"root": str(data_root)}}
    config = merged([Layer(str(one.folder), one.config.tree), Layer("--data-root", place)])
    adopt_experiment(one, root, out, say)
    ready = replace(prepare(config, out, say), fingerprint=one.fingerprint)
    if ready.split.digest != one.split_digest:
        raise ConfigError(
            f"its split has the digest {one.split_digest}, and {ready.split.digest} when it is drawn from the images "
            f"of {config.data.name} here; name the folder of the images that it was drawn from by --data-root"
        )
    with StateDirectory(out, one.fingerprint) as state:
        rounds = state.rounds(say)
        if len(rounds) < ready.rounds:
            raise ConfigError(f"has {len(rounds)} of {ready.rounds} iterations; run: dvc repro")
        about = read_about(state.path)
        made_with = about.made_with if about else {}
        with TrackedRun.open(ready, state, uri=tracking, say=say, monitor=False, made_with=made_with) as tracked:
            tracked.replay(rounds)
            tracked.finish()
        state.finish()
