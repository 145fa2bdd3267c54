"""`fkal runs rm`: experiments deleted in MLflow's sense, with their iterations; on request their state as well."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import typer
from rich.console import Console

from fkal.cli.progress import say
from fkal.cli.runs_table import run_table
from fkal.config.schema import ConfigError
from fkal.results.checkpoint import StateDirectory
from fkal.tracking.query import FoundRun, Wanted, all_runs, found, iterations, named, opened


def remove(
    texts: Sequence[str], wanted: Wanted, *, tracking: str | None, out: Path, with_state: bool, yes: bool
) -> None:
    """Delete the runs that are named, or that the filters take, once they were shown and agreed to.

    While they are deleted their states are held, so none is at work. Raises StateInUse if one is.
    """
    if bool(texts) != wanted.is_any:
        raise ConfigError("name the runs to remove, or filter them, say --method random --status failed; one of both")
    client = opened(tracking)
    listing = all_runs(client) if texts else found(client, wanted)
    for flaw in listing.damaged:
        say(f"left alone: {flaw}")
    runs = named(listing.runs, texts, superseded=wanted.superseded) if texts else listing.runs
    states = [state for run in runs if not run.superseded and (state := StateDirectory(out, run.fingerprint)).exists]
    if not yes:
        Console(stderr=True).print(run_table(runs))
        more = f" and {len(states)} of them from {out / 'state'} for good" if with_state else ""
        typer.confirm(f"Remove these {len(runs)} from {client.tracking_uri}{more}?", abort=True, err=True)
    with ExitStack() as held:
        for state in states:
            held.enter_context(state)
        for run in runs:
            for child in iterations(client, run):
                client.delete_run(child.info.run_id)
            client.delete_run(run.run_id)
            typer.echo(f"removed {run.run_id} {run.name}")
        for state in states if with_state else ():
            state.remove()
    _say_what_is_left(runs, states, client.tracking_uri, with_state)


def _say_what_is_left(runs: Sequence[FoundRun], states: Sequence[StateDirectory], uri: str, with_state: bool) -> None:
    say(
        "MLflow keeps removed runs, each iteration one as well, until `mlflow gc "
        f"--backend-store-uri {uri}` removes them for good; until then "
        f"`MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {runs[0].run_id}` brings one back"
    )
    if states and not with_state:
        say(
            f"{len(states)} of them still have their finished iterations ({states[0].path}): "
            "`fkal run` would track them again without running them; --state removes those as well"
        )
