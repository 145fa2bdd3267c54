"""What `fkal run` left in its scratch folder, for the report."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fkal.config.schema import ConfigError
from fkal.errors import MissingRuns
from fkal.redaction import redacted
from fkal.report.experiments import Finished, Material, material_of
from fkal.report.load.round_folders import rounds_in, weights_in
from fkal.report.load.tracked_manifest import tracked_abouts
from fkal.report.splits import data_digest_of, splits_in
from fkal.results.manifest import About, read_about
from fkal.results.outcome import Outcome
from fkal.tracking.query import opened


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
    folders = [path for path in sorted((out / "state").glob("*")) if any(path.glob("round-*.json"))]
    if not folders:
        raise MissingRuns(
            f"{out / 'state'}: no finished iterations; run `fkal run --out {shlex.quote(str(out))}` first"
        )
    abouts, damaged = _abouts(folders, tracking)
    splits, damaged_splits = splits_in(sorted((out / "splits").glob("*.json")))
    finished, left_out = [], []
    for folder in folders:
        about = abouts.get(folder.name)
        if about is None:
            if folder not in damaged:
                left_out.append(f"{folder}: no about.json, and the tracking store does not know it; left out")
            continue
        try:
            rounds = rounds_in(folder, timed_files=True)
        except ConfigError as error:
            damaged[folder] = f"{error}; the same `fkal run` makes it again; left out"
            continue
        if len(rounds) < _expected(about):
            left_out.append(f"{folder}: {len(rounds)} of {_expected(about)} iterations are finished; left out")
            continue
        split = splits.get(about.split_digest)
        outcome = Outcome(
            about.config,
            folder.name,
            about.split_digest,
            rounds,
            run_id="",
            tracking_uri="",
            data_digest=data_digest_of(about.data_digest, split),
        )
        finished.append(Finished(outcome, weights_in(folder), split, about.made_with, about.classes))
    flaws = [*damaged.values(), *damaged_splits]
    if not finished:
        raise MissingRuns(f"{out}: no experiment is finished\n" + "\n".join([*left_out, *flaws]))
    return KeptExperiments(finished, left_out, flaws)


def _abouts(folders: Sequence[Path], tracking: str | None) -> tuple[Mapping[str, About], dict[Path, str]]:
    """By fingerprint, and why others cannot be read.

    Those without their own file are as the tracking store has them, if there is a store.
    """
    kept: dict[str, About] = {}
    damaged: dict[Path, str] = {}
    absent = []
    for folder in folders:
        try:
            about = read_about(folder)
        except ConfigError as error:
            damaged[folder] = f"{error}; left out"
            continue
        if about is None:
            absent.append(folder)
        else:
            kept[folder.name] = about
    if not absent:
        return kept, damaged
    try:
        tracked, odd = tracked_abouts(opened(tracking), {folder.name for folder in absent})
    except MissingRuns:
        if not kept:
            raise
        return kept, damaged
    by_name = {folder.name: folder for folder in absent}
    return {**tracked, **kept}, {**damaged, **{by_name[name]: why for name, why in odd.items()}}


def _expected(about: About) -> int:
    from fkal.acquisition.registry import acquisition

    return about.config.acquisition.rounds if acquisition(about.config.acquisition.name).has_schedule else 1
