"""One experiment, from wherever it stands to its end: each round kept, then tracked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fkal.config.schema import ConfigError
from fkal.engine.processes import current_processes
from fkal.engine.rounds import Round
from fkal.errors import ProcessLost
from fkal.experiment.experiment import Experiment
from fkal.notify import ShownBy, Unseen
from fkal.results.checkpoint import ABOUT, UNUSABLE, Checkpoint
from fkal.results.manifest import about_bytes, read_about
from fkal.results.outcome import Outcome
from fkal.runner.together import shared_work
from fkal.tracking.store import tracking_uri

if TYPE_CHECKING:
    from fkal.tracking.experiment_run import TrackedRun


def run_one(
    experiment: Experiment, out: Path, tracking: str | None, *, wait: bool = True, shown_by: ShownBy = Unseen
) -> Outcome:
    """Bring one experiment to its end, from wherever it stands.

    While another process works on it, this one waits, or raises StateInUse if it shall not.

    A round is on disk before it is tracked; what a kill kept from the store is logged
    first thing next time.
    """
    from fkal.tracking.experiment_run import TrackedRun

    with Checkpoint(out, experiment.fingerprint, experiment.say if wait else None) as state:
        rounds = state.rounds(experiment.say)
        _describe(experiment, state)
        found = len(rounds)
        about = read_about(state.path) if found >= experiment.rounds else None  # who made them, here or elsewhere
        with TrackedRun.open(
            experiment,
            state,
            uri=tracking,
            say=experiment.say,
            monitor=about is None,
            made_with=about.made_with if about else None,
        ) as tracked:
            tracked.replay(rounds)
            if len(rounds) < experiment.rounds:
                if rounds:
                    experiment.say(
                        f"{experiment.shown_name}: going on after round {len(rounds)} of {experiment.rounds}"
                    )
                rounds += _worked(experiment, rounds, state, tracked, shown_by)
            logged = tracked.finish()
            state.finish()
        if found >= experiment.rounds:
            experiment.say(f"{experiment.shown_name}: finished before, {'tracked now' if logged else 'nothing to do'}")
        return Outcome(
            config=experiment.config,
            fingerprint=experiment.fingerprint,
            split_digest=experiment.split.digest,
            data_digest=experiment.split.data_digest,
            rounds=tuple(replace(each, weights={}) for each in rounds),
            run_id=tracked.run_id,
            tracking_uri=tracking_uri(tracking, Path.cwd()),
        )


def _describe(experiment: Experiment, state: Checkpoint) -> None:
    """A file that no longer describes an experiment is made again, as a damaged round is."""
    try:
        read_about(state.path)
    except ConfigError as flaw:
        experiment.say(f"{flaw}: done, and this one is kept as {ABOUT}{UNUSABLE}")
        state.set_aside(ABOUT)
    state.describe(about_bytes(experiment))


def _worked(
    experiment: Experiment,
    finished: Sequence[Round],
    state: Checkpoint,
    tracked: "TrackedRun",
    shown_by: ShownBy,
) -> list[Round]:
    new = []
    current_processes().from_first(shared_work(experiment, finished))
    unfinished = state.unfinished(experiment.config.train.checkpoint_minutes, experiment.say)
    with shown_by(experiment.shown_name, iterations=experiment.rounds, done=len(finished)) as bars:
        try:
            for event in experiment.events(finished, unfinished):
                if isinstance(event, Round):
                    state.add(event)
                    unfinished.clear()
                    tracked.log(event)
                    new.append(event)
                    bars.advance()
                else:
                    bars.show(event)
        except (KeyboardInterrupt, ProcessLost):  # SIGTERM is one of the first as well
            unfinished.flush()
            raise
    return new
