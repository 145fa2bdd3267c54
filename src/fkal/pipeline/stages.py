"""The pipeline's stages: each does what its plan file says, in the scratch folder, and publishes what is whole."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from fkal.notify import PLAIN, Display, Notify
from fkal.pipeline.plan import StageJob, planned, planned_methods
from fkal.pipeline.publish import publish_cell, publish_files
from fkal.pipeline.published import (
    CURVES,
    DESCRIPTORS,
    EXPERIMENTS,
    METRICS,
    PRETRAINED,
    SPLITS,
    TIMINGS,
    cell_file,
    refuse_foreign,
    remove_published,
)
from fkal.pipeline.restore import restore
from fkal.runner import prepare as preparing
from fkal.runner import run as running
from fkal.runner.plan import RayCluster

STAGES = {PRETRAINED: "pretrain", DESCRIPTORS: "descriptors"}
"""The stage that publishes each kind."""


def split(plan: Path, out: Path, display: Display = PLAIN) -> list[dict[str, Any]]:
    """Returns what `prepare.split` does."""
    work = planned(plan, "split")
    refuse_foreign(work.root, SPLITS, work.cell)
    restore(work.root, out, display.notify)
    made = preparing.split(work.configs, out=out, display=display)
    files = [Path(each["path"]) for each in made]
    publish_files(files, SPLITS, cell=work.cell, root=work.root, out=out)
    return made


def pretrain(plan: Path, out: Path, display: Display = PLAIN) -> list[dict[str, Any]]:
    """What `prepare.pretrain` returns.

    A folder for each method, since an ensemble needs weights that others do not; links to the same files.
    """
    made: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for work in _methods_of(plan, out, PRETRAINED, display.notify):
        same = tuple(config.digest for config in work.configs)
        if same not in made:
            is_none = not work.configs[0].pretrains
            made[same] = [] if is_none else preparing.pretrain(work.configs, out=out, display=display)
        files = [Path(path) for each in made[same] for path in each["paths"]]
        publish_files(files, PRETRAINED, cell=work.cell, root=work.root, out=out)
    return [each for some in made.values() for each in some]


def descriptors(
    plan: Path, out: Path, display: Display = PLAIN, cluster: RayCluster | None = None
) -> list[dict[str, Any]]:
    """What `prepare.embed` returns.

    A folder for each method, so that an experiment depends on its own; one that needs none has an empty one.
    """
    every: list[dict[str, Any]] = []
    for work in _methods_of(plan, out, DESCRIPTORS, display.notify):
        made = preparing.embed(work.configs, out=out, cluster=cluster, display=display)
        every += made
        folders = [Path(path) for each in made for path in each["paths"]]
        files = [path for folder in dict.fromkeys(folders) for path in sorted(folder.glob("*.safetensors"))]
        publish_files(files, DESCRIPTORS, cell=work.cell, root=work.root, out=out)
    return every


def _methods_of(plan: Path, out: Path, kind: str, notify: Notify) -> Iterator[StageJob]:
    """The work for each method; of what was published for this pair of dataset and ratio nothing stays."""
    methods = planned_methods(plan, STAGES[kind])
    root, pair = methods[0].root, str(PurePosixPath(methods[0].cell).parent)
    for name in (pair, *(work.cell for work in methods)):
        refuse_foreign(root, kind, name)
    restore(root, out, notify)
    remove_published(root, kind, pair)
    yield from methods


def experiment(
    plan: Path,
    out: Path,
    tracking: str | None,
    jobs: int,
    *,
    cluster: RayCluster | None = None,
    wait: bool = True,
    display: Display = PLAIN,
) -> running.Finished:
    """What `run.run` returns, once it is published. Its curves are drawn by the report."""
    work = planned(plan, "experiment")
    refuse_foreign(work.root, EXPERIMENTS, work.cell)
    for kind in (METRICS, CURVES, TIMINGS):
        cell_file(work.root, kind, work.cell)
    restore(work.root, out, display.notify)
    finished = running.run(
        work.configs,
        out=out,
        tracking=tracking,
        jobs=jobs,
        cluster=cluster,
        draws=False,
        wait=wait,
        display=display,
    )
    if not finished.failures:
        publish_cell(finished.outcomes, work.cell, work.root, out, data=work.data)
    return finished
