"""MLflow's page on a store: the server that shows it, and the addresses at which it compares methods."""

import errno
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

from fkal.config.schema import ConfigError
from fkal.errors import shortened
from fkal.notify import Notify
from fkal.redaction import has_secret, without_login
from fkal.tracking.query import unreadable_run
from fkal.tracking.store import SERVERS, tracking_uri
from fkal.tracking.tags import KIND
from fkal.tracking.unreadable_rows import pages, rows

if TYPE_CHECKING:
    from mlflow import MlflowClient

VARIABLE = "MLFLOW_TRACKING_URI"
SERVER_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job processes take 1.7 GB and serve nothing here
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")
START_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.2
MOST_COMPARED = 20
LOG_LINES = 5
LAST_PORT = 65535


BEST_FIRST = urlencode(
    {
        "workflowType": "machine_learning",
        "searchFilter": f'tags.`{KIND}` = "method"',
        "orderByKey": "metrics.`accuracy/test`",
        "orderByAsc": "false",
    },
    quote_via=quote,
)
"""What MLflow's page is asked for: the runs of methods alone, the most accurate first."""


class Comparison(NamedTuple):
    """One dataset's methods: the path of their charts, and of their settings side by side."""

    experiment: str
    methods: int
    charts: str
    compare: str


def ui_command(uri: str) -> str:
    """What opens the page on a store: of a server its address, else `fkal ui`."""
    if uri.startswith("http"):
        return without_login(uri)
    if has_secret(uri) or uri == tracking_uri(None, Path.cwd()):  # one with a password is read from its variable
        return "fkal ui"
    return f"fkal ui --tracking-uri {shlex.quote(uri)}"


def store_argument(uri: str) -> str:
    """The address as a word of a shell's command; one with a password as the variable that holds it."""
    return f'"${VARIABLE}"' if has_secret(uri) else shlex.quote(uri)


def ui_hint(uri: str) -> str:
    """What the user has to do before `store_argument` works; nothing where it does already."""
    is_needed = has_secret(uri) and os.environ.get(VARIABLE) != uri
    return f" (first put the address, with its password, into {VARIABLE})" if is_needed else ""


def is_server(uri: str) -> bool:
    """Whether something serves the page at this address already."""
    return uri.startswith(SERVERS)


def comparisons(client: "MlflowClient", say: Notify) -> list[Comparison]:
    """One for each dataset that has a method's run; the one that was worked on last comes first.

    A run that MLflow cannot read is reported and left out.
    """
    found = []
    for experiment in pages(client.search_experiments, filter_string="name LIKE 'fkal/%'"):
        place = experiment.experiment_id
        methods = rows(client.search_runs, [place], f"tags.`{KIND}` = 'method'")
        for run_id in methods.unreadable:
            say(f"left out: {unreadable_run(run_id)}")
        if runs := methods.runs[:MOST_COMPARED]:
            found.append((runs[0].info.start_time, place, experiment.name, [run.info.run_id for run in runs]))
    return [
        Comparison(
            experiment=name,
            methods=len(ids),
            charts=f"/#/experiments/{place}/runs?{BEST_FIRST}&compareRunsMode=CHART",
            compare=f"/#/compare-runs?runs={_list(ids)}&experiments={_list([place])}",
        )
        for _, place, name, ids in sorted(found, reverse=True)
    ]


def _list(ids: Sequence[str]) -> str:
    return quote(json.dumps(ids, separators=(",", ":")), safe=",")


@contextmanager
def serving(uri: str, *, host: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """MLflow's server on a store; it answers when this yields, and it is gone when this ends.

    Raises ConfigError for a port that is taken, RuntimeError with the server's last words if it does not come up.
    """
    _refuse_taken(host, port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**_environment(host, port), "MLFLOW_BACKEND_STORE_URI": uri},  # in no list of processes
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            near = "127.0.0.1" if host in EVERY_ADDRESS else host
            _wait(server, f"{address(near, port)}/health", log)
            yield server
        finally:
            _stop(server)


def address(host: str, port: int) -> str:
    """Where a browser finds it; of a server on every address, by the machine's own name."""
    return f"http://{_with_port(names_of(host)[0], port)}"


def names_of(host: str) -> list[str]:
    """By which names a browser may ask for it."""
    if host not in EVERY_ADDRESS:
        return [host]
    name = socket.gethostname()
    try:
        addresses = [str(info[4][0]) for info in socket.getaddrinfo(name, None)]
    except OSError:  # the machine does not know its own name
        addresses = []
    return list(dict.fromkeys([name, socket.getfqdn(), *addresses]))


def _environment(host: str, port: int) -> dict[str, str]:
    """MLflow refuses a browser that asks by a name it does not know; what the user has set for that is kept."""
    if host in LOOPBACK:
        return {**os.environ, **SERVER_ENVIRONMENT}
    known = [_with_port(name, port) for name in names_of(host)]
    named = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(["localhost:*", "127.0.0.1:*", *known]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{each}" for each in known),
    }
    return {**named, **os.environ, **SERVER_ENVIRONMENT}


def _with_port(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    other = port + 1 if port < LAST_PORT else port - 1
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            is_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            way_out = (
                "an address of this machine, say --host 127.0.0.1" if is_host else f"another port, say --port {other}"
            )
            raise ConfigError(
                f"--host {shortened(host)} --port {port}: cannot be listened on ({error.strerror}); give {way_out}"
            ) from None


def _wait(server: "subprocess.Popen[bytes]", health: str, log: IO[bytes]) -> None:
    last = time.monotonic() + START_SECONDS
    while not _answers(health):
        if server.poll() is not None or time.monotonic() > last:
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
            raise RuntimeError(f"MLflow's server did not start: {' / '.join(said) or 'it said nothing'}")
        time.sleep(POLL_SECONDS)


def _answers(health: str) -> bool:
    try:
        with urllib.request.urlopen(health, timeout=POLL_SECONDS * 10):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """It and the processes that it started: they are one session."""

    for end in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, end)
            server.wait(STOP_SECONDS)
