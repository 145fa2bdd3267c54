"""`fkal sync`: the tracking store brought up to what was published and to what `fkal run` left; nothing is computed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fkal.config.machine import config_here
from fkal.config.schema import ConfigError
from fkal.data.errors import CorruptData, CorruptSplit, ForeignSplit, MissingData
from fkal.errors import MissingRuns, SomeFailed, first_line
from fkal.experiment.experiment import prepare
from fkal.experiment.names import dataset_name
from fkal.identifiers import UnsafeName
from fkal.notify import Notify, on_standard_error
from fkal.pipeline.published import published_folders, read_published
from fkal.pipeline.restore import adopt_experiment
from fkal.results.checkpoint import Checkpoint, StateInUse, is_of_trial
from fkal.results.manifest import Manifest, read_about
from fkal.runner.run import put_under_method
from fkal.tracking.store import tracking_uri

DATA_ERRORS = (MissingData, CorruptData, CorruptSplit, ForeignSplit)
LEFT_OUT = (ConfigError, UnsafeName, StateInUse, PermissionError, *DATA_ERRORS)
"""What is wrong with one experiment, and hides no other."""


class SyncOptions(NamedTuple):
    """Where the store and the images are."""

    out: Path
    tracking: str | None
    data_root: Path | None
    notify: Notify


def sync(
    root: Path,
    out: Path,
    tracking: str | None,
    data_root: Path | None = None,
    *,
    notify: Notify = on_standard_error,
    tell: Notify = on_standard_error,
) -> None:
    """Bring the tracking store up to what is published under `root` and to the finished rounds under `out`.

    `tell` gets the counts, `notify` what happens meanwhile.
    Raises MissingRuns where there is neither, SomeFailed where experiments are left out, and MissingData where no
    experiment's images are here.
    """
    tracking_uri(tracking, Path.cwd())  # an address that no store can have is refused before all else
    options = SyncOptions(out, tracking, data_root, notify)
    folders = list(published_folders(root))
    left_out: dict[Path, Exception] = {}
    known: set[str] = set()
    for folder in folders:
        try:
            known.add(_sync_published(folder, root, options))
        except LEFT_OUT as error:
            left_out[folder] = error
    states = [path for path in _states(out) if path.name not in known and not _is_published(path, folders)]
    if not folders and not states:
        raise MissingRuns(
            f"nothing is published under {root}, and {out / 'state'} has no finished rounds; "
            "run: dvc pull, dvc repro or fkal run"
        )
    for state in states:
        try:
            _sync_state(state, options)
        except LEFT_OUT as error:
            left_out[state] = error
    for line in _counts(folders, states, left_out, root, out):
        tell(line)
    _refuse_left_out(left_out, len(folders) + len(states))


def _counts(
    folders: list[Path], states: list[Path], left_out: Mapping[Path, Exception], root: Path, out: Path
) -> Iterator[str]:
    for paths, where in ((folders, f"published under {root}"), (states, f"that `fkal run` left under {out}")):
        if paths:
            tracked = sum(path not in left_out for path in paths)
            yield f"{tracked} of {len(paths)} experiments {where} are tracked"


def _refuse_left_out(left_out: Mapping[Path, Exception], total: int) -> None:
    missing = [error for error in left_out.values() if isinstance(error, MissingData)]
    if missing and len(missing) == total:
        raise missing[0]
    if left_out:
        lines = [f"{path}: {_reason(error)}" for path, error in left_out.items()]
        raise SomeFailed(f"{len(left_out)} of {total} experiments are left out:\n" + "\n".join(lines))


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{first_line(error)}; let this user read and write there"
    return str(error)


def _sync_published(folder: Path, root: Path, options: SyncOptions) -> str:
    """Its fingerprint."""
    one = read_published(folder)
    adopt_experiment(one, root, options.out, options.notify)
    about = read_about(Checkpoint(options.out, one.fingerprint).path)
    made_with = about.made_with if about else {}
    tracked = Manifest(one.config, one.split_digest, made_with, one.data_digest, one.classes)
    rounds, expected = _track(tracked, one.fingerprint, options, whole=True)
    if rounds < expected:
        raise ConfigError(f"has {rounds} of {expected} rounds; run: dvc repro")
    return one.fingerprint


def _sync_state(path: Path, options: SyncOptions) -> None:
    """An experiment that is not finished is tracked as far as it is, for `fkal run` to go on with."""
    about = read_about(path)
    if about is None:
        raise ConfigError("has no about.json, so an earlier version made it; `fkal run` tracks it")
    rounds, expected = _track(about, path.name, options, whole=False)
    if rounds < expected:
        options.notify(f"{path}: {rounds} of {expected} rounds are finished; `fkal run` goes on with it")


def _track(about: Manifest, fingerprint: str, options: SyncOptions, *, whole: bool) -> tuple[int, int]:
    """Log what the store lacks of an experiment; how many rounds it has, and how many it should.

    With `whole`, one that is not finished is not tracked.
    """
    from fkal.tracking.experiment_run import TrackedRun
    from fkal.tracking.store import prepare_store

    config = config_here(about.config, "about.json", options.data_root)
    ready = replace(prepare(config, options.out, options.notify), fingerprint=fingerprint)
    if ready.split.digest != about.split_digest:
        raise ConfigError(
            f"its split has the digest {about.split_digest}, and {ready.split.digest} when it is drawn from the images "
            f"of {dataset_name(config.data)} here; name the folder of the images that it was drawn from by --data-root"
        )
    with Checkpoint(options.out, fingerprint) as state:
        rounds = state.rounds(options.notify)
        is_finished = len(rounds) >= ready.rounds
        if whole and not is_finished:
            return len(rounds), ready.rounds
        with TrackedRun.open(
            ready, state, uri=options.tracking, say=options.notify, monitor=False, made_with=about.made_with
        ) as tracked:
            tracked.replay(rounds)
            if is_finished:
                tracked.finish()
            else:
                tracked.leave()
        if is_finished:
            state.finish()
    if is_finished:
        put_under_method(prepare_store(tracking_uri(options.tracking, Path.cwd())), tracked.run_id, options.notify)
    return len(rounds), ready.rounds


def _states(out: Path) -> Iterator[Path]:
    """Of experiments that began, but those of trials of `fkal tune`, which the study tracks."""
    began = (path for path in sorted((out / "state").glob("*")) if any(path.glob("round-*.json")))
    return (path for path in began if not is_of_trial(path))


def _is_published(state: Path, folders: list[Path]) -> bool:
    """Whether it is one of the published experiments, be it one that was left out."""
    for folder in folders:
        try:
            if read_published(folder).fingerprint == state.name:
                return True
        except (ConfigError, UnsafeName):  # told of where it was read first
            continue
    return False
