"""What `dvc repro` published, for the report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fkal.config.schema import ConfigError
from fkal.errors import MissingRuns
from fkal.pipeline.plan import PLAN
from fkal.pipeline.published import (
    MADE_WITH,
    SPLITS,
    TIMINGS,
    Published,
    published_folders,
    read_published,
    read_timings,
)
from fkal.report.experiments import Finished, Material, SplitFacts, material_of
from fkal.report.load.round_folders import rounds_in, weights_in
from fkal.report.splits import data_digest_of, splits_in
from fkal.results.outcome import Outcome


def from_pipeline(root: Path) -> Material:
    """The finished experiments that the pipeline has published.

    Args:
        root: Folder of what the pipeline publishes, `data` by default.

    Returns:
        The experiments of the plan's cells, and notes on what is absent.

    Raises:
        MissingRuns: None of the plan's experiments is published.
        ConfigError: What is published is damaged.
    """
    cells = [_cell(path) for path in sorted((root / PLAN).glob("*/methods/*.yaml"))]
    splits, damaged = splits_in(sorted((root / SPLITS).glob("*/*.json")))
    finished = []
    folders = list(published_folders(root, cells))
    for folder in folders:
        try:
            finished.append(_finished(read_published(folder), root, splits))
        except ConfigError as error:
            damaged.append(f"{error}; left out")
    if damaged and not finished:
        raise ConfigError(f"{root}: no published experiment can be read\n" + "\n".join(damaged))
    if not finished:
        raise MissingRuns(
            f"nothing is published under {root}; run: dvc repro, or report what `fkal run` left: fkal report --out runs"
        )
    absent = sorted(set(cells).difference(folder.parent.name for folder in folders))
    notes = [f"{cell}: planned and not published; run: dvc repro experiment@{cell}" for cell in absent]
    return material_of(finished, () if root == Path("data") else ("--root", str(root)), notes, damaged)


def _finished(one: Published, root: Path, splits: Mapping[str, SplitFacts]) -> Finished:
    """Raises ConfigError for files that are not what was published."""
    timings = read_timings(root / TIMINGS / f"{one.cell}.json").get(one.folder.name, {})
    split = splits.get(one.split_digest)
    outcome = Outcome(
        one.config,
        one.fingerprint,
        one.split_digest,
        _rounds(one, timings),
        run_id="",
        tracking_uri="",
        data_digest=data_digest_of(one.data_digest, split),
    )
    return Finished(outcome, weights_in(one.folder), split, timings.get(MADE_WITH, {}), one.classes)


def _rounds(one: Published, timings: Mapping[str, Any]) -> Any:
    """With the seconds that were published beside it."""
    try:
        rounds = rounds_in(one.folder, timed_files=False)
    except ConfigError as error:
        raise ConfigError(f"{error}; bring it back: dvc checkout --force") from None
    return tuple(replace(each, seconds=timings.get(f"round-{each.b:02d}", {}).get("seconds", {})) for each in rounds)


def _cell(plan: Path) -> str:
    """`mnist-100-pfk_joint` of `mnist-100/methods/pfk_joint.yaml`."""
    return f"{plan.parent.parent.name}-{plan.stem}"
