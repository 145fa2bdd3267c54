"""What `fkal run` left in its scratch folder, for the report."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from fkal.cli.exit import MissingRuns
from fkal.redaction import redacted
from fkal.report.experiments import Finished, Material, material_of
from fkal.report.load.round_folders import rounds_in, weights_in
from fkal.report.load.tracked_manifest import tracked_abouts
from fkal.report.splits import splits_in
from fkal.results.manifest import About, read_about
from fkal.results.outcome import Outcome
from fkal.tracking.query import opened


def from_runs(out: Path, tracking: str | None) -> Material:
    """The finished experiments of the scratch folder `out`. Raises MissingRuns if nothing is finished there."""
    finished, left_out = finished_in(out, tracking)
    source = ("--out", str(out), *(("--tracking-uri", redacted(tracking)) if tracking else ()))
    return material_of(finished, source, left_out)


def finished_in(out: Path, tracking: str | None) -> tuple[list[Finished], list[str]]:
    """Every finished experiment of the scratch folder `out`, and why each other folder is left out.

    Of one that an earlier version kept without its configuration, the tracking store has it.
    Raises MissingRuns if nothing is finished there.
    """
    folders = [path for path in sorted((out / "state").glob("*")) if any(path.glob("round-*.json"))]
    if not folders:
        raise MissingRuns(
            f"{out / 'state'}: no finished iterations; run `fkal run --out {shlex.quote(str(out))}` first"
        )
    abouts = _abouts(folders, tracking)
    splits = splits_in(sorted((out / "splits").glob("*.json")))
    finished, left_out = [], []
    for folder in folders:
        about = abouts.get(folder.name)
        rounds = () if about is None else rounds_in(folder, timed_files=True)
        if about is None or len(rounds) < _expected(about):
            left_out.append(_why(folder, about, len(rounds)))
            continue
        outcome = Outcome(about.config, folder.name, about.split_digest, rounds, run_id="", tracking_uri="")
        finished.append(Finished(outcome, weights_in(folder), splits.get(about.split_digest), about.made_with))
    if not finished:
        raise MissingRuns(f"{out}: no experiment is finished\n" + "\n".join(left_out))
    return finished, left_out


def _abouts(folders: list[Path], tracking: str | None) -> Mapping[str, About]:
    """By fingerprint; those without their own file as the tracking store has them, if there is a store."""
    kept = {folder.name: about for folder in folders if (about := read_about(folder)) is not None}
    if len(kept) == len(folders):
        return kept
    try:
        return {**tracked_abouts(opened(tracking)), **kept}
    except MissingRuns:
        if not kept:
            raise
        return kept


def _expected(about: About) -> int:
    from fkal.acquisition.registry import acquisition

    return 1 if acquisition(about.config.acquisition.name).whole_pool else about.config.acquisition.rounds


def _why(folder: Path, about: About | None, found: int) -> str:
    if about is None:
        return f"{folder}: no about.json, and the tracking store does not know it; left out"
    return f"{folder}: {found} of {_expected(about)} iterations are finished; left out"
