"""What `fkal run` left in its scratch folder, for the report."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fkal.redaction import redacted
from fkal.report.experiments import Finished, Material, material_of
from fkal.report.load.round_folders import rounds_in, weights_in
from fkal.report.load.tracked_manifest import tracked_abouts
from fkal.report.splits import data_digest_of, splits_in
from fkal.results.kept_runs import kept_runs
from fkal.results.manifest import Manifest
from fkal.results.outcome import Outcome
from fkal.tracking.query import open_store


class KeptExperiments(NamedTuple):
    """Finished experiments, why each other one is left out, and what could not be read."""

    finished: list[Finished]
    left_out: list[str]
    damaged: list[str]


def from_runs(out: Path, tracking: str | None) -> Material:
    """The finished experiments of the folder in which `fkal run` keeps them.

    Args:
        out: That folder, `runs` by default.
        tracking: The MLflow store that has the settings of older runs, if any.

    Returns:
        The experiments, and notes on what was left out.

    Raises:
        MissingRuns: Nothing is finished there.
    """
    kept = finished_in(out, tracking)
    source = ("--out", str(out), *(("--tracking-uri", redacted(tracking)) if tracking else ()))
    return material_of(kept.finished, source, kept.left_out, kept.damaged)


def finished_in(out: Path, tracking: str | None) -> KeptExperiments:
    """Every finished experiment of the scratch folder `out`.

    Of one that an earlier version kept without its configuration, the tracking store has it. What is damaged
    keeps no other from being read. Raises MissingRuns if nothing is finished there.
    """
    splits, damaged_splits = splits_in(sorted((out / "splits").glob("*.json")))
    found = kept_runs(out, partial(rounds_in, timed_files=True), partial(_tracked, tracking), damaged_splits)
    finished = [
        Finished(
            Outcome(
                about.config,
                folder.name,
                about.split_digest,
                rounds,
                run_id="",
                tracking_uri="",
                data_digest=data_digest_of(about.data_digest, splits.get(about.split_digest)),
            ),
            weights_in(folder),
            splits.get(about.split_digest),
            about.made_with,
            about.classes,
        )
        for folder, about, rounds in found.finished
    ]
    return KeptExperiments(finished, found.left_out, found.damaged)


def _tracked(tracking: str | None, fingerprints: Collection[str]) -> tuple[dict[str, Manifest], dict[str, str]]:
    return tracked_abouts(open_store(tracking), fingerprints)
