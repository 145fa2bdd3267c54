"""The finished experiments of the scratch folder that `fkal run` leaves. Imports no torch and no MLflow."""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from fkal.acquisition.registry import acquisition
from fkal.config.schema import ConfigError
from fkal.data.registry import entry_of
from fkal.errors import MissingRuns
from fkal.results.checkpoint import is_of_trial
from fkal.results.manifest import Manifest, read_about

R = TypeVar("R")
Tracked = Callable[[Collection[str]], tuple[Mapping[str, Manifest], Mapping[str, str]]]
"""From fingerprints to their manifests, and why others have none; raises MissingRuns where there is no store."""


class KeptRun(NamedTuple, Generic[R]):
    """The folder of a finished experiment, its manifest and its rounds in their order."""

    folder: Path
    about: Manifest
    rounds: tuple[R, ...]


class KeptRuns(NamedTuple, Generic[R]):
    """Finished experiments, why each other one is left out, and what could not be read."""

    finished: list[KeptRun[R]]
    left_out: list[str]
    damaged: list[str]


def kept_runs(
    out: Path, read: Callable[[Path], tuple[R, ...]], tracked: Tracked, damaged_splits: Sequence[str] = ()
) -> KeptRuns[R]:
    """Every finished experiment of `out`; trials of `fkal tune` are none.

    Args:
        out: The folder that `fkal run --out` names.
        read: Reads the rounds of a state folder; raises ConfigError for one that is not whole.
        tracked: Has the manifests that an earlier version did not write beside the rounds.
        damaged_splits: Why split files could not be read; they are named after the other damages.

    Raises:
        MissingRuns: Nothing is finished there.
    """
    began = [path for path in sorted((out / "state").glob("*")) if any(path.glob("round-*.json"))]
    folders = [path for path in began if not is_of_trial(path)]
    if not folders:
        raise MissingRuns(f"{out / 'state'}: no finished rounds; run `fkal run --out {shlex.quote(str(out))}` first")
    abouts, damaged = _abouts(folders, tracked)
    finished, left_out = [], []
    for folder in folders:
        about = abouts.get(folder.name)
        if about is None:
            if folder not in damaged:
                left_out.append(f"{folder}: no about.json, and the tracking store does not know it; left out")
            continue
        try:
            expected = _expected(about)
        except ValueError as error:
            damaged[folder] = f"{folder}: {error}; left out"
            continue
        try:
            rounds = read(folder)
        except ConfigError as error:
            damaged[folder] = f"{error}; the same `fkal run` makes it again; left out"
            continue
        if len(rounds) < expected:
            left_out.append(f"{folder}: {len(rounds)} of {expected} rounds are finished; left out")
            continue
        finished.append(KeptRun(folder, about, rounds))
    flaws = [*damaged.values(), *damaged_splits]
    if not finished:
        raise MissingRuns(f"{out}: no experiment is finished\n" + "\n".join([*left_out, *flaws]))
    return KeptRuns(finished, left_out, flaws)


def _abouts(folders: Sequence[Path], tracked: Tracked) -> tuple[Mapping[str, Manifest], dict[Path, str]]:
    """By fingerprint, and why others cannot be read."""
    kept: dict[str, Manifest] = {}
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
        found, odd = tracked({folder.name for folder in absent})
    except MissingRuns:
        if not kept:
            raise
        return kept, damaged
    by_name = {folder.name: folder for folder in absent}
    return {**found, **kept}, {**damaged, **{by_name[name]: why for name, why in odd.items()}}


def _expected(about: Manifest) -> int:
    """How many rounds a finished one has. Raises ValueError where no method or dataset here has its names."""
    entry_of(about.config.data.name)
    return about.config.acquisition.rounds if acquisition(about.config.acquisition.name).has_schedule else 1
