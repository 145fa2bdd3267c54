"""The MLflow store: where it is, made once, reached or refused in words that help.

mlflow is imported where it is needed: to know the address takes none of its seconds.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
DATABASES = ("postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
STORE_FILE = "mlflow.db"
ARTIFACTS = "mlartifacts"
CREATION_SECONDS = 120.0
CREATION_LOCK = 0x666B616C
"""PostgreSQL's advisory locks have numbers: "fkal"."""
REACH_SECONDS = 5
TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment by which MLflow's page opens at runs and models instead of at prompts and agents."""
ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"


class StoreError(ValueError):
    """The tracking store is not one, or does not answer."""


def tracking_uri(given: str | None, cwd: Path) -> str:
    """The address given, else MLFLOW_TRACKING_URI, else `mlflow.db` in `cwd`; sqlite paths made absolute.

    Raises StoreError for an address that no store can have.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{STORE_FILE}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{(cwd / uri.removeprefix(SQLITE)).absolute()}"
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in (*DATABASES, *SERVERS) and uri != "databricks":
        raise StoreError(
            f"tracking address {uri!r}: MLflow keeps runs in a database or on a server; "
            f"give {SQLITE}{STORE_FILE}, postgresql://... or http://host:5000"
        )
    return uri


def prepare_store(uri: str) -> "MlflowClient":
    """A client of the store, which exists, has its tables and answers. Call it before all else of MLflow.

    Of several processes that call it at once for a new sqlite file or PostgreSQL database, one makes the
    tables; the others wait.
    Raises StoreError if the store cannot be reached.
    """
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        if uri.startswith(SQLITE):
            _prepare_sqlite(uri)
        reached = _reached_alone(uri) if urlsplit(uri).scheme.partition("+")[0] in DATABASES else nullcontext()
        with reached, _impatient():
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except ImportError as error:
        raise StoreError(
            f"the MLflow store {_without_password(uri)} needs a driver ({error}); "
            "install it (PostgreSQL: pip install 'psycopg[binary]', address postgresql+psycopg://...)"
        ) from error
    except (MlflowException, OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raise StoreError(
            f"the MLflow store {_without_password(uri)} cannot be used ({_first_line(error)}); "
            "start its server, or name another one by --tracking-uri or MLFLOW_TRACKING_URI"
        ) from error
    return client


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
        assert found is not None, name
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise StoreError(
            f"MLflow experiment {name!r} was deleted: runs go to an active one; "
            f"bring it back with `mlflow experiments restore -x {found.experiment_id}`, or remove it with `mlflow gc`"
        )
    return str(found.experiment_id)


@contextmanager
def only_writer(uri: str) -> Iterator[None]:
    """Holds the store's lock: of processes that ask for it one at a time goes on. A server has no lock to hold.

    Raises StoreError if another process keeps it for too long.
    """
    if uri.startswith(SQLITE):
        lock = FileLock(f"{database_path(uri)}.lock", timeout=CREATION_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(f"{lock.lock_file} is held by another process; end it and start this again") from None
        try:
            yield
        finally:
            lock.release()
        return
    import sqlalchemy

    alone = _reached_alone(uri) if urlsplit(uri).scheme.partition("+")[0] in DATABASES else nullcontext()
    try:
        with alone:
            yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StoreError(f"the MLflow store {_without_password(uri)} cannot be used ({_first_line(error)})") from error


def artifact_location(uri: str, dataset: str) -> str | None:
    """Beside a sqlite file, in the working directory for other databases; a server has its own."""
    if uri.startswith(SQLITE):
        return (database_path(uri).parent / ARTIFACTS / dataset).as_uri()
    if urlsplit(uri).scheme.partition("+")[0] in DATABASES:
        return (Path.cwd() / ARTIFACTS / dataset).as_uri()
    return None


def _prepare_sqlite(uri: str) -> None:
    path = database_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=CREATION_SECONDS)
    try:
        with lock:
            _create_or_migrate(uri, path)
    except Timeout as error:
        raise OSError(f"another process holds {lock.lock_file} for more than {CREATION_SECONDS:g} s") from error


def _create_or_migrate(uri: str, path: Path) -> None:
    """All tables as the installed MLflow has them, write-ahead log on; of an older file a copy is kept."""
    import mlflow.store.db.utils

    tables: Any = mlflow.store.db.utils  # untyped
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        revision = _revision(database)
        if revision == tables._get_latest_schema_revision():
            return
        if revision is not None:
            with closing(sqlite3.connect(f"{path}.{revision}")) as copy:
                database.backup(copy)
    engine = tables.create_sqlalchemy_engine(uri)
    try:
        if revision is None:
            tables._initialize_tables(engine)
        else:
            tables._upgrade_db(engine)
    finally:
        engine.dispose()


def _revision(database: sqlite3.Connection) -> str | None:
    """Of the tables; None for a file without tables."""
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "alembic_version" not in tables or "experiments" not in tables:
        raise sqlite3.DatabaseError("its tables are not those of an MLflow store, or were left half made; move it away")
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("its tables were left half made; move it away")
    return str(row[0])


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


@contextmanager
def _impatient() -> Iterator[None]:
    """MLflow's own requests are repeated for minutes; to find out whether a server is there, that is too long."""
    settings = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REACH_SECONDS),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def database_path(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(f":{parts.password}@", ":***@")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
