"""`fkal runs rm`: experiments deleted in MLflow's sense, with their rounds; on request their state as well."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fkal.cli.runs_table import run_table
from fkal.cli.terminal import confirm, console, echo, say
from fkal.config.schema import ConfigError
from fkal.errors import refuse_damaged
from fkal.identifiers import UnsafeName, checked_fingerprint
from fkal.results.checkpoint import Checkpoint
from fkal.tracking.method_run import remake_method_run
from fkal.tracking.query import FoundRun, RunFilter, all_runs, find_runs, iterations, named, open_store
from fkal.tracking.ui import store_argument, ui_hint
from fkal.tracking.unreadable_rows import UnreadableStore

if TYPE_CHECKING:
    from mlflow import MlflowClient


def remove(
    texts: Sequence[str], wanted: RunFilter, *, tracking: str | None, out: Path, with_state: bool, yes: bool
) -> None:
    """Delete the runs that are named, or that the filters take, once they were shown and agreed to.

    While they are deleted their states are held, so none is at work. Raises StateInUse if one is.
    """
    if bool(texts) != wanted.is_any:
        raise ConfigError("name the runs to remove, or filter them, say --method random --status failed; one of both")
    client = open_store(tracking)
    listing = all_runs(client) if texts else find_runs(client, wanted)
    for flaw in listing.left_out:
        say(f"left alone: {flaw}")
    runs = named(listing.runs, texts, superseded=wanted.superseded) if texts else listing.runs
    states = _states(runs, out, with_state=with_state)
    if not yes:
        console(err=True).print(run_table(runs))
        more = f" and {len(states)} of them from {out / 'state'} for good" if with_state else ""
        confirm(f"Remove these {len(runs)} from {client.tracking_uri}{more}?")
    with ExitStack() as held:
        for state in states:
            held.enter_context(state)
        for run in runs:
            _delete(client, run)
        without_mean = _remake_means(client, runs)
        for state in states if with_state else ():
            state.remove()
    _say_what_is_left(runs, states, client.tracking_uri, with_state)
    refuse_damaged(without_mean)


def _delete(client: "MlflowClient", run: FoundRun) -> None:
    rounds = iterations(client, run)
    for run_id in [*(child.info.run_id for child in rounds.runs), *rounds.unreadable, run.run_id]:
        client.delete_run(run_id)
    echo(f"removed {run.run_id} {run.name}")


def _remake_means(client: "MlflowClient", runs: Sequence[FoundRun]) -> list[str]:
    """Of the seeds that are left; why some cannot be made."""
    without = []
    for run in runs:
        try:
            remake_method_run(client, run.run_id)
        except UnreadableStore as error:
            without.append(f"the mean beside {run.name} is not updated: {error}")
    return without


def _states(runs: Sequence[FoundRun], out: Path, *, with_state: bool) -> list[Checkpoint]:
    """Those that are there. Raises UnsafeName where one is to be removed that a run does not name, or that cannot be.

    A run that names none is removed from the store all the same.
    """
    states: list[Checkpoint] = []
    for run in (run for run in runs if not run.superseded):
        try:
            state = Checkpoint(out, checked_fingerprint(run.fingerprint, f"run {run.run_id}: its tag fkal.fingerprint"))
            if with_state:
                state.refuse_foreign()
        except UnsafeName as error:
            if with_state:
                raise UnsafeName(f"{error}; nothing was removed; leave out --state to remove the run alone") from None
            continue
        if state.exists and state.path not in {each.path for each in states}:  # a store may have two runs of one
            states.append(state)
    return states


def _say_what_is_left(runs: Sequence[FoundRun], states: Sequence[Checkpoint], uri: str, with_state: bool) -> None:
    store = store_argument(uri)
    say(
        "MLflow keeps removed runs, each round one as well, until `mlflow gc "
        f"--backend-store-uri {store}` removes them for good; until then "
        f"`MLFLOW_TRACKING_URI={store} mlflow runs restore --run-id {runs[0].run_id}` brings one back{ui_hint(uri)}"
    )
    if states and not with_state:
        say(
            f"{len(states)} of them still have their finished rounds ({states[0].path}): "
            "`fkal run` would track them again without running them; --state removes those as well"
        )
