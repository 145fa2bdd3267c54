"""Calls of the store that wait while another process has its SQLite file locked, and say so once."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fkal.errors import EndsAll
from fkal.interrupts import unbroken
from fkal.notify import Notify
from fkal.tracking.unreadable_rows import unreadable_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

LOCKED = re.compile(r"database (table |schema )?is locked")
GONE = re.compile(r"API request to .* failed with (timeout )?exception", re.DOTALL)
"""How MLflow says that a server does not answer; it has repeated the request by then."""
READS = ("search_", "get_")
"""How the names of calls begin that change nothing."""
ON_FILES = ("log_artifact", "log_artifacts", "log_model_artifacts", "log_text", "download_artifacts", "list_artifacts")
"""Calls that may copy for minutes, and leave no transaction open."""
FULL = re.compile(r"(database or disk is full|disk I/O error)")
PATIENCE_SECONDS = 600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
SOON_SECONDS = 3.0
TRACKED_LATER = (
    "finished rounds are kept on disk: the same command tracks them and goes on "
    "(`fkal sync` does it for what the pipeline published)"
)


class StoreUnavailable(EndsAll, ValueError):
    """The store was reached before, and is locked or gone now; what is on disk can be tracked later."""


class PatientClient:
    """MLflow's client of a store, each of whose calls waits for a locked file.

    A call that finds the file locked has changed nothing, so it can be made again. An interrupt waits for a database's
    answer: a call that it broke off would keep the file locked, for this process too.
    """

    def __init__(self, client: "MlflowClient", name: str, say: Notify, way_out: str) -> None:
        self._client = client
        self._name = name
        self._say = say
        self._way_out = way_out

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._call, value) if callable(value) else value

    def _call(self, function: Callable[..., Any], *values: Any, **named: Any) -> Any:
        call = partial(function, *values, **named)
        if function.__name__ not in ON_FILES and not self._client.tracking_uri.startswith("http"):
            call = unbroken()(call)
        if function.__name__.startswith(READS):
            call = partial(_read, call, self._name)
        return patiently(call, self._name, self._say, self._way_out)


def _read(call: Callable[[], T], name: str) -> T:
    """Raises UnreadableStore for rows that MLflow cannot read, since they were changed by hand."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise unreadable_store(name, error) from error
    except MlflowException as error:
        if "cannot be None" not in str(error):
            raise
        raise unreadable_store(name, error) from error


def patient(client: "MlflowClient", name: str, say: Notify, way_out: str) -> "MlflowClient":
    """The client, whose calls wait; `name` is the store's address for people to read."""
    return cast("MlflowClient", PatientClient(client, name, say, way_out))


def terminate_soon(client: "MlflowClient", run_id: str, status: str) -> None:
    """Gives a run its end, and waits no more than seconds for a store that is locked or gone: what went wrong first is
    what matters. Processes that end together are in each other's way for moments."""
    from mlflow.exceptions import MlflowException

    call = unbroken()(partial(impatient(client).set_terminated, run_id, status))
    with suppress(MlflowException, StoreUnavailable):
        patiently(call, "", lambda _: None, seconds=SOON_SECONDS)


def impatient(client: "MlflowClient") -> "MlflowClient":
    """The client whose calls do not wait."""
    return client._client if isinstance(client, PatientClient) else client


def patiently(
    call: Callable[[], T], name: str, say: Notify, way_out: str = TRACKED_LATER, *, seconds: float | None = None
) -> T:
    """What the call returns, made again for some minutes, or for so many seconds, while the store is locked.

    Raises StoreUnavailable, whose message ends with the way out, if it stays locked, its disk is full, or its server
    does not answer.
    """
    patience = PATIENCE_SECONDS if seconds is None else seconds
    last, pause, told = time.monotonic() + patience, FIRST_PAUSE, False
    while True:
        try:
            return call()
        except Exception as error:
            if GONE.match(str(error)):
                raise StoreUnavailable(f"the MLflow store {name} does not answer any more; {way_out}") from error
            if found := FULL.search(str(error)):
                raise StoreUnavailable(
                    f"the MLflow store {name} cannot be written ({found[0]}); make room on its disk; {way_out}"
                ) from error
            if not LOCKED.search(str(error)):
                raise
            if time.monotonic() > last:
                minutes = f"{patience / 60:.0f} minutes"
                raise StoreUnavailable(
                    f"another process has kept the MLflow store {name} locked for {minutes}; {way_out}"
                ) from error
        if not told:
            say(f"the MLflow store {name} is locked by another process: waiting up to {patience:.0f} s")
            told = True
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
