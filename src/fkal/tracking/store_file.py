"""The SQLite file of the MLflow store: made whole under another name, upgraded on a copy, never left half made.

All of this happens under the store's file lock, so one process at a time does it.
"""

import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fkal.identifiers import schema_revision
from fkal.tracking.sqlite_address import sqlite_address

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

ARTIFACTS = "mlartifacts"
"""Folder of artifacts beside the store's file."""
NEW, HALF_MADE, OLD = ".new", ".half-made", ".old"
VERSION, TEMPORARY_TABLE = "alembic_version", "_alembic_tmp_"
BESIDE = ("-wal", "-shm", "-journal")
"""Ends of the names of the files that SQLite keeps beside a database."""
NO_POOL = {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
"""MLflow's setting for a connection to close as soon as it is not used: a file can be renamed once it is closed."""
BUSY_SECONDS = 20.0


class _Contents(NamedTuple):
    """Names of a database's tables, and the version of the MLflow schema that it says it has."""

    tables: frozenset[str]
    revision: str | None


def ensure_store_file(path: Path, say: Callable[[str], None]) -> None:
    """Leave at `path` a store with the tables of the installed MLflow and the write-ahead log on.

    A store that an earlier kill left half made is set aside if it holds no runs. Raises sqlite3.DatabaseError
    for one that cannot be used, and OSError or SQLAlchemy's errors if the disk is full; then `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + NEW)
    _remove(new)
    contents = _contents(path)
    if contents.revision == _revisions().get_current_head():
        _switch_log(path, "WAL")
        return
    try:
        if contents.revision is not None:
            _upgrade(path, contents.revision, new, say)
        else:
            if contents.tables:
                _refuse_foreign(contents.tables)
                _set_aside(path, contents.tables, say)
            _make(new)
        _put_in_place(new, path)
    finally:
        _remove(new)


def _contents(path: Path) -> _Contents:
    if not path.exists():
        for beside in _files_beside(path):  # SQLite would take an old log for that of the new file
            beside.replace(_free_name(beside.with_name(beside.name + OLD)))
        return _Contents(frozenset(), None)
    with closing(_connected(path)) as database:
        tables = frozenset(name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        if not {VERSION, "experiments"} <= tables:
            return _Contents(tables, None)
        found = [str(revision) for (revision,) in database.execute(f"SELECT version_num FROM {VERSION}")]
    if len(found) > 1:
        raise sqlite3.DatabaseError(f"its table {VERSION} has {len(found)} rows, and a store has one revision")
    return _Contents(tables, found[0] if found else None)


def _make(new: Path) -> None:
    """By MLflow's own store, which makes the tables and the default experiment of an empty file.

    Its client would put the path of that experiment's artifacts into SQL text as it is, where a quote, a colon or a
    backslash breaks the statement; an address has none of them.
    """
    from mlflow.tracking._tracking_service.utils import _get_sqlalchemy_store

    with settings(NO_POOL):
        _get_sqlalchemy_store(sqlite_address(new), (new.parent / ARTIFACTS).as_uri())


def _upgrade(path: Path, revision: str, new: Path, say: Callable[[str], None]) -> None:
    """On a copy; the store as it was is kept under its revision. One that a kill left half made is made again."""
    import sqlalchemy

    schema_revision(revision, f"{path}: alembic_version")
    _refuse_unknown(revision)
    kept = path.with_name(f"{path.name}.{revision}")
    try:
        with _writers_wait(path):
            _copy(path, new)
            new.replace(kept)
            _copy(path, new)
            _run_migrations(new)
    except BaseException as error:
        kept.unlink(missing_ok=True)
        original = error.orig if isinstance(error, sqlalchemy.exc.OperationalError) else None
        if getattr(original, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:  # a full disk, say
            raise
        _remove(new)
        _set_aside(path, _contents(path).tables, say)
        _make(new)


@contextmanager
def _writers_wait(path: Path) -> Iterator[None]:
    """What another process, an MLflow server say, would write meanwhile would be lost with the old file."""
    with closing(_connected(path)) as database:
        database.isolation_level = None
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")


def _run_migrations(path: Path) -> None:
    """`mlflow db upgrade`."""
    from mlflow.db import commands

    with settings(NO_POOL), warnings.catch_warnings(action="ignore"):  # of constraints that SQLite has no names for
        commands.main(["upgrade", sqlite_address(path)], prog_name="mlflow db", standalone_mode=False)


def _put_in_place(new: Path, path: Path) -> None:
    """No process may have the old file open: its log would be taken for the new one's."""
    _switch_log(new, "WAL")
    with new.open("rb") as file:
        os.fsync(file.fileno())
    if path.exists():
        _switch_log(path, "DELETE")
    new.replace(path)


def _switch_log(path: Path, mode: str) -> None:
    """To `DELETE` brings the log into the file; sqlite3.OperationalError while another process has it open."""
    with closing(_connected(path)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")


def _copy(path: Path, to: Path) -> None:
    with closing(_connected(path)) as database, closing(_connected(to)) as copy:
        database.backup(copy)


def _set_aside(path: Path, tables: frozenset[str], say: Callable[[str], None]) -> None:
    """Rename what an earlier kill left half made. Raises sqlite3.DatabaseError if it holds runs."""
    with closing(_connected(path)) as database:
        runs = database.execute("SELECT count(*) FROM runs").fetchone()[0] if "runs" in tables else 0
    if runs:
        raise sqlite3.DatabaseError(
            f"its tables are half made, and it holds {runs} runs; move {path} away, or put a backup in its place"
        )
    _switch_log(path, "DELETE")
    aside = _free_name(path.with_name(path.name + HALF_MADE))
    path.replace(aside)
    say(f"{path}: an earlier kill left this store half made, without runs; it is kept as {aside.name}, and made again")


def _refuse_foreign(tables: frozenset[str]) -> None:
    """Before its first revision a store has tables of the first MLflow and of the installed one alone."""
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as First

    known = {*First.metadata.tables, *Base.metadata.tables, VERSION}
    foreign = sorted(name for name in tables if name.removeprefix(TEMPORARY_TABLE) not in known)
    if foreign:
        raise sqlite3.DatabaseError(f"it has a table {foreign[0]!r}, so it is no MLflow store")


def _refuse_unknown(revision: str) -> None:
    """One of a newer MLflow cannot be upgraded."""
    from alembic.util import CommandError

    try:
        _revisions().get_revision(revision)
    except CommandError:
        raise sqlite3.DatabaseError(
            f"its revision {revision} is not known to the installed MLflow, so a newer one made it; install that one"
        ) from None


@lru_cache(maxsize=1)
def _revisions() -> "ScriptDirectory":
    """Those that the installed MLflow knows."""
    import mlflow.store.db_migrations
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.store.db_migrations.__file__).parent))


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS)


def _files_beside(path: Path) -> list[Path]:
    return [beside for end in BESIDE if (beside := path.with_name(path.name + end)).exists()]


def _free_name(path: Path) -> Path:
    names = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in count(1))
    return next(name for name in names if not name.exists())


def _remove(path: Path) -> None:
    for each in (path, *_files_beside(path)):
        each.unlink(missing_ok=True)


@contextmanager
def settings(values: Mapping[str, str]) -> Iterator[None]:
    """Settings that MLflow reads from the environment, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
