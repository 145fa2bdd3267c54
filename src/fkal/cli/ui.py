"""`fkal ui`: MLflow's page, opened where it compares the methods."""

import webbrowser
from types import FrameType
from typing import Annotated

import typer

from fkal.cli.exit import SIGNAL_CODE, call_when_ended, cli_errors
from fkal.cli.options import Debug, Tracking
from fkal.cli.terminal import echo, say
from fkal.redaction import without_login

EPILOG = (
    "Examples:\n\n    fkal ui\n\n    fkal ui --port 5001 --no-browser\n\n"
    "    fkal ui --tracking-uri sqlite:////data/mlflow.db"
)

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")]


def ui(
    tracking_uri: Tracking = None,
    host: Host = "127.0.0.1",
    port: Port = 5000,
    no_browser: NoBrowser = False,
    debug: Debug = False,
) -> None:
    """Open the runs in MLflow's page: one line per method, the mean over its seeds.

    Clear the search box there to see the seeds below each method, and below them the rounds. The server runs until
    Ctrl-C. Through SSH, forward the port first: ssh -L 5000:127.0.0.1:5000 HOST.
    """
    with cli_errors(debug):
        _serve(tracking_uri, host=host, port=port, opens=not no_browser)


def _serve(given: str | None, *, host: str, port: int, opens: bool) -> None:
    from fkal.tracking.query import open_store, refuse_empty
    from fkal.tracking.ui import address, comparisons, is_server, serving

    client = open_store(given)
    refuse_empty(client)  # an empty store has nothing to open
    found, uri = comparisons(client, say), client.tracking_uri
    base = without_login(uri) if is_server(uri) else address(host, port)
    lines = [f"{each.experiment}: {base}{each.charts}" for each in found] or [f"runs: {base}"]
    side_by_side = [f"settings side by side: {base}{each.compare}" for each in found[:1] if each.methods > 1]
    start = base + found[0].charts if found else base
    if is_server(uri):
        _tell([*lines, *side_by_side], start, opens)
        return
    say(f"starting MLflow on {uri}")
    call_when_ended(_terminated)
    with serving(uri, host=host, port=port) as server:
        _tell([*lines, *side_by_side], start, opens)
        say("Ctrl-C ends it")
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
        raise RuntimeError(f"MLflow's server ended by itself (exit code {code}); start it again")


def _tell(lines: list[str], start: str, opens: bool) -> None:
    for line in lines:
        echo(line)
    if opens and not webbrowser.open(start):
        say("no browser was found; open the address above in one")


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(SIGNAL_CODE + number)
