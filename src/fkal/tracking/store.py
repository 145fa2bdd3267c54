"""The MLflow store: where it is, made once, reached or refused in words that help.

mlflow is imported where it is needed: to know the address takes none of its seconds.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fkal.data.regular_files import IrregularFile, refuse_irregular
from fkal.errors import DISK_FULL, FORBIDDEN, UserError, first_line
from fkal.locks import LINE_SECONDS, NamedLock
from fkal.notify import Notify, on_standard_error
from fkal.redaction import redact_log, redacted, remember_address
from fkal.tracking.network_files import network_file_system
from fkal.tracking.patience import GONE, TRACKED_LATER, StoreUnavailable, patient, patiently
from fkal.tracking.sqlite_address import SQLITE, absolute_address, database_path, is_sqlite
from fkal.tracking.store_file import ARTIFACTS, ensure_store_file, settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASES = ("postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
STORE_FILE = "mlflow.db"
CREATION_LOCK = 0x666B616C
"""PostgreSQL's advisory locks have numbers: "fkal"."""
REACH_SECONDS = 5
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment by which MLflow's page opens at runs and models instead of at prompts and agents."""
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}
"""MLflow's own requests are repeated for minutes; to find out whether a server is there, that is too long."""
CLOSED = "unable to open database file"
"""What SQLite says of a file that this user may not read."""
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"


class StoreError(UserError, ValueError):
    """The tracking store is not one, or does not answer."""


def tracking_uri(given: str | None, cwd: Path) -> str:
    """The address given, else MLFLOW_TRACKING_URI, else `mlflow.db` in `cwd`; sqlite paths made absolute.

    Raises StoreError for an address that no store can have.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{STORE_FILE}"
    remember_address(uri)
    if is_sqlite(uri):
        return _absolute(uri, cwd)
    if _scheme(uri) not in (*DATABASES, *SERVERS) and uri != "databricks":
        raise StoreError(
            f"tracking address {redacted(uri)!r}: MLflow keeps runs in a database or on a server; "
            f"give {SQLITE}{STORE_FILE}, postgresql://... or http://host:5000"
        )
    return uri


def prepare_store(uri: str, say: Notify = on_standard_error, *, way_out: str = TRACKED_LATER) -> "MlflowClient":
    """A client of the store, which exists, has its tables and answers. Call it before all else of MLflow.

    Of several processes that call it at once for a new sqlite file or PostgreSQL database, one makes the
    tables; the others wait. The client waits, too, while another process has locked the SQLite file.
    Raises StoreError if the store cannot be reached or written, StoreUnavailable if it stays locked, OSError if its
    disk is full.
    """
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name = redacted(uri)
    try:
        redact_log("mlflow")
        if is_sqlite(uri):
            path = database_path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_network(path)
            _refuse_irregular(path)
            with NamedLock(Path(f"{path}.lock"), waiting=say, quiet_seconds=LINE_SECONDS):
                patiently(partial(ensure_store_file, path, say), name, say, way_out)
        reached = _reached_alone(uri) if _scheme(uri) in DATABASES else nullcontext()
        with reached, settings({**IMPATIENT, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REACH_SECONDS)}):
            patiently(partial(_make_default_experiment, uri), name, say, way_out)
            client = patiently(partial(MlflowClient, tracking_uri=uri), name, say, way_out)
            patiently(partial(client.search_experiments, max_results=1), name, say, way_out)
    except ImportError as error:
        raise StoreError(
            f"the MLflow store {name} needs a driver ({redacted(str(error))}); "
            "install it (PostgreSQL: pip install 'psycopg[binary]', address postgresql+psycopg://...)"
        ) from error
    except StoreError:
        raise
    except StoreUnavailable as error:
        if is_sqlite(uri):
            raise
        raise _unusable(name, error.__cause__ or error, is_file=False) from error
    except (MlflowException, OSError, ValueError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise _unusable(name, error, is_file=is_sqlite(uri)) from error
    return patient(client, name, say, way_out)


def _refuse_network(path: Path) -> None:
    """Raises StoreError for an SQLite file whose locks do not hold between machines."""
    kind = network_file_system(path.parent)
    if kind is not None:
        raise StoreError(
            f"{path}: on a network file system ({kind}), where SQLite's locks do not hold and runs are lost; "
            "name a file on a local disk, or a server (postgresql://..., http://host:5000), by --tracking-uri or "
            "MLFLOW_TRACKING_URI"
        )


def _refuse_irregular(path: Path) -> None:
    """Raises StoreError for a folder, a pipe or a device that has the name of an SQLite file."""
    try:
        refuse_irregular(path)
    except IrregularFile as error:
        raise StoreError(
            f"{path}: an MLflow store is a file, and {error.strerror}; move it away, or name another by --tracking-uri "
            "or MLFLOW_TRACKING_URI"
        ) from None
    except OSError:  # nothing is there yet, or a link leads nowhere
        return


def _unusable(name: str, error: BaseException, *, is_file: bool) -> StoreError:
    is_forbidden = isinstance(error, OSError) and error.errno in FORBIDDEN
    if is_forbidden or CLOSED in str(error):
        way_out = "let this user read and write there"
    else:
        way_out = "put a sound copy in its place, or move it away" if is_file else "start its server"
    why = "no server answers there" if GONE.match(str(error)) else redacted(first_line(error))
    return StoreError(
        f"the MLflow store {name} cannot be used ({why}); "
        f"{way_out}, or name another one by --tracking-uri or MLFLOW_TRACKING_URI"
    )


def experiment_id(client: "MlflowClient", dataset: str) -> str:
    """Of the experiment `fkal/<dataset>`, created where absent; side by side this may happen twice and gives one."""
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    name = f"fkal/{dataset}"
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location(client.tracking_uri, dataset), TRAINING)
        except MlflowException as error:
            if error.error_code != ALREADY_EXISTS:
                raise
        found = client.get_experiment_by_name(name)
        if found is None:
            raise StoreError(
                f"the MLflow store {redacted(client.tracking_uri)} says that it has an experiment {name!r}, and does "
                "not show it; put a sound copy in its place, or move it away"
            )
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise StoreError(
            f"MLflow experiment {name!r} was deleted: runs go to an active one; "
            f"bring it back with `mlflow experiments restore -x {found.experiment_id}`, or remove it with `mlflow gc`"
        )
    return str(found.experiment_id)


@contextmanager
def only_writer(uri: str) -> Iterator[None]:
    """Holds the store's lock: of processes that ask for it one at a time goes on. A server has no lock to hold.

    Who waits says so once a minute. Raises StoreError for a database that cannot be reached.
    """
    if is_sqlite(uri):
        with NamedLock(Path(f"{database_path(uri)}.lock"), waiting=on_standard_error, quiet_seconds=LINE_SECONDS):
            yield
        return
    import sqlalchemy

    alone = _reached_alone(uri) if _scheme(uri) in DATABASES else nullcontext()
    try:
        with alone:
            yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StoreError(f"the MLflow store {redacted(uri)} cannot be used ({redacted(first_line(error))})") from error


def artifact_location(uri: str, dataset: str) -> str | None:
    """Beside a sqlite file, in the working directory for other databases; a server has its own."""
    folder = _artifacts_folder(uri)
    return None if folder is None else (folder / dataset).as_uri()


def _artifacts_folder(uri: str) -> Path | None:
    if is_sqlite(uri):
        return database_path(uri).parent / ARTIFACTS
    return Path.cwd() / ARTIFACTS if _scheme(uri) in DATABASES else None


def _make_default_experiment(uri: str) -> None:
    """MLflow's experiment 0, with an address that has no quotes: MLflow's client would put a bare path into SQL text.

    A quote, a colon or a backslash in the working directory would break its statement.
    """
    from mlflow.tracking._tracking_service.utils import _get_sqlalchemy_store

    folder = _artifacts_folder(uri)
    if folder is not None:
        _get_sqlalchemy_store(uri, folder.as_uri())


def _scheme(uri: str) -> str:
    """`postgresql` of `postgresql+psycopg://...`; empty for what is no URL."""
    scheme, mark, _ = uri.partition("://")
    return scheme.lower().partition("+")[0] if mark else ""


def _absolute(uri: str, cwd: Path) -> str:
    try:
        return absolute_address(uri, cwd)
    except UnicodeEncodeError as error:
        raise StoreError(
            f"tracking store {str(error.object)!a}: the path is not UTF-8, and MLflow keeps paths as text; "
            "rename the folder, work in another one, or name another store by --tracking-uri"
        ) from error


@contextmanager
def _reached_alone(uri: str) -> Iterator[None]:
    """One attempt, where MLflow would make ten, over minutes; on PostgreSQL one process at a time goes on."""
    import sqlalchemy

    patience = {} if uri.startswith("mssql") else {"connect_timeout": REACH_SECONDS}
    engine = sqlalchemy.create_engine(uri, connect_args=patience)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(CREATION_LOCK)))
            yield
    finally:
        engine.dispose()
