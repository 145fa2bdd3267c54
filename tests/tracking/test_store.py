"""The MLflow store."""

import errno
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.tracking import patience
from fkal.tracking.query import all_runs, open_store
from fkal.tracking.store import StoreError, artifact_location, experiment_id, prepare_store, tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


@pytest.fixture(autouse=True)
def new_stores_are_copies() -> None:
    """Here they are made, each of them."""


def test_the_address_given_comes_before_the_environment_before_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri(None, tmp_path) == "http://there:5000"
    assert tracking_uri("sqlite:///runs/my.db", tmp_path) == f"sqlite:///{tmp_path}/runs/my.db"
    assert tracking_uri("sqlite:////else/my.db", tmp_path) == "sqlite:////else/my.db"


@pytest.mark.parametrize("address", ["mlruns", "file:///tmp/mlruns", "./mlruns"])
def test_a_folder_is_refused_with_what_to_give(address, tmp_path):
    with pytest.raises(ValueError, match=r"mlruns'.*give sqlite:///mlflow\.db"):
        tracking_uri(address, tmp_path)


def test_artifacts_lie_beside_a_sqlite_file_and_a_server_has_its_own(tmp_path):
    assert artifact_location(f"sqlite:///{tmp_path}/m.db", "mnist") == f"file://{tmp_path}/mlartifacts/mnist"
    assert artifact_location("http://there:5000", "mnist") is None


@pytest.mark.slow
def test_two_processes_prepare_the_same_new_store_at_once(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    program = (
        "from fkal.tracking.store import prepare_store, experiment_id\n"
        f"print(experiment_id(prepare_store({uri!r}), 'tiny'))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers == [("1\n", ""), ("1\n", "")]  # the same experiment, and not a word besides
    with closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_deleted_experiment_is_not_used(store):
    client = prepare_store(store)
    client.delete_experiment(experiment_id(client, "tiny"))
    with pytest.raises(ValueError, match=r"'fkal/tiny' was deleted.*mlflow experiments restore -x 1"):
        experiment_id(client, "tiny")


def test_a_server_that_is_not_there_is_reported_soon():
    before = os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        ValueError, match=rf"http://127\.0\.0\.1:{port} cannot be used \(no server answers there\).*--tracking-uri"
    ):
        prepare_store(f"http://127.0.0.1:{port}")
    assert os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES") == before


def test_a_server_that_says_nothing_is_reported_soon(monkeypatch):
    monkeypatch.setattr("fkal.tracking.store.REACH_SECONDS", 1)
    with closing(socket.socket()) as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port = mute.getsockname()[1]
        with pytest.raises(ValueError, match=r"cannot be used.*start its server"):
            prepare_store(f"http://127.0.0.1:{port}")


def test_a_password_is_not_repeated():
    with pytest.raises(
        ValueError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:1/mlflow (cannot be used|needs)"
    ) as caught:
        prepare_store("postgresql://me:secret@127.0.0.1:1/mlflow")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_forbidden_folder_is_named_as_such_and_not_as_a_server(tmp_path, monkeypatch, number):
    def refuse(path: str, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("filelock._unix.os.open", refuse)
    with pytest.raises(StoreError, match=r"mlflow\.db\.lock: .*; let this user .* by --tracking-uri") as error:
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert "server" not in str(error.value) and "Errno" not in str(error.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_as_such_and_not_as_a_server(tmp_path, monkeypatch, number):
    def refuse(path: str, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("filelock._unix.os.open", refuse)
    with pytest.raises(OSError, match=r"mlflow\.db\.lock") as error:
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert error.value.errno == number


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"my thesis, chapter one. " * 100)
    with pytest.raises(ValueError, match=r"cannot be used \(file is not a database\)"):
        prepare_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"my thesis, chapter one. " * 100


@pytest.mark.parametrize("revision", ["./../precious", "../x", "", "head", 3])
def test_the_revision_of_a_foreign_file_names_no_copy_elsewhere(tmp_path, revision):
    (tmp_path / "mlflow.db.").mkdir()
    (tmp_path / "precious").write_text("mine")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    with pytest.raises(ValueError, match=r"alembic_version: .*12 hexadecimal digits"):
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "precious").read_text() == "mine"


def test_the_copy_of_an_older_store_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "mlflow.db.451aebb31d03").symlink_to(tmp_path / "precious")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
    prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "precious").read_text() == "mine"


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def beside(path: Path) -> set[str]:
    """What else is in the store's folder, the lock and the log of an open store apart."""
    usual = {path.name, "mlflow.db.lock", "mlflow.db-wal", "mlflow.db-shm"}
    return {each.name for each in path.parent.iterdir()} - usual


def half_made(path: Path, empty_store: Path, moment: str) -> None:
    """As a kill in that moment left the stores of earlier versions."""
    with closing(sqlite3.connect(path)) as database:
        match moment:
            case "before the first table":
                database.execute("PRAGMA user_version = 0")
            case "after the first table":
                database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
            case "before the first revision":
                with closing(sqlite3.connect(empty_store)) as whole:
                    whole.backup(database)
                database.execute("DELETE FROM alembic_version")
            case "in the middle of a migration":
                with closing(sqlite3.connect(empty_store)) as whole:
                    whole.backup(database)
                database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")  # long before the last
        database.commit()


MOMENTS = [
    "before the first table",
    "after the first table",
    "before the first revision",
    "in the middle of a migration",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_store_that_a_kill_left_half_made_is_set_aside_and_made_again(tmp_path, empty_store, said, moment):
    path = tmp_path / "mlflow.db"
    half_made(path, empty_store, moment)
    client = prepare_store(f"sqlite:///{path}", said.append)
    assert experiment_id(client, "tiny") == "1"
    assert tables_of(path) == tables_of(empty_store)
    if moment == "before the first table":  # nothing was in it
        assert said == [] and beside(path) == set()
    else:
        assert [word for word in said if "half made" in word] == said and len(said) == 1
        assert beside(path) == {"mlflow.db.half-made"}


@pytest.mark.parametrize("moment", MOMENTS[2:])
def test_a_half_made_store_that_holds_runs_is_refused_with_the_way_out(tmp_path, empty_store, said, moment):
    path = tmp_path / "mlflow.db"
    half_made(path, empty_store, moment)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO runs (run_uuid, experiment_id) VALUES ('a', 0)")
        database.commit()
    with pytest.raises(ValueError, match=r"half made, and it holds 1 runs; move .* away, or put a backup in its place"):
        prepare_store(f"sqlite:///{path}", said.append)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT run_uuid FROM runs").fetchall() == [("a",)]
    assert said == [] and beside(path) == set()


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE chapters (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="has a table 'chapters', so it is no MLflow store"):
        prepare_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_a_store_of_a_newer_mlflow_is_refused_and_left_alone(tmp_path, store):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
        database.commit()
    with pytest.raises(ValueError, match=r"revision fffffffffff0 is not known .* a newer one made it"):
        prepare_store(store)
    assert beside(path) == set()


def test_a_store_of_two_revisions_is_refused_and_left_alone(tmp_path, store):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO alembic_version VALUES ('fffffffffff0')")
        database.commit()
    with pytest.raises(ValueError, match="its table alembic_version has 2 rows, and a store has one revision"):
        prepare_store(store)
    assert beside(path) == set()


def test_what_a_kill_left_of_a_new_store_is_removed(tmp_path):
    path = tmp_path / "mlflow.db"
    for end in ("", "-wal", "-journal"):
        (tmp_path / f"mlflow.db.new{end}").write_bytes(b"half")
    (tmp_path / "mlflow.db-wal").write_bytes(b"of a store that was removed")
    prepare_store(f"sqlite:///{path}")
    assert beside(path) == {"mlflow.db-wal.old"}


def test_an_older_store_is_upgraded_on_a_copy_and_kept_as_it_was(tmp_path, said):
    """As MLflow 3.17 migrates it from its first revision on; its run is still there."""
    from alembic import command
    from alembic.config import Config
    from mlflow.store import db_migrations
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    path = tmp_path / "mlflow.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = Config()
    config.set_main_option("script_location", str(Path(db_migrations.__file__).parent))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    with engine.begin() as connection, warnings.catch_warnings(action="ignore"):
        config.attributes["connection"] = connection
        command.upgrade(config, "0584bdc529eb")
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO experiments VALUES (1, 'fkal/old', 'there', 'active', 0, 0)")
        database.execute(
            "INSERT INTO runs (run_uuid, experiment_id, name, user_id, status, source_type, start_time,"
            " lifecycle_stage) VALUES ('a', 1, 'old', 'me', 'FINISHED', 'LOCAL', 0, 'active')"
        )
        database.commit()
    client = prepare_store(f"sqlite:///{path}", said.append)
    assert client.get_run("a").info.experiment_id == "1"
    assert beside(path) == {"mlflow.db.0584bdc529eb"}
    with closing(sqlite3.connect(tmp_path / "mlflow.db.0584bdc529eb")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("0584bdc529eb",)
    assert said == []


def test_a_locked_store_is_waited_for_and_that_is_said_once(tmp_path, said, monkeypatch):
    path = tmp_path / "some.db"
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as holder:
        holder.execute("CREATE TABLE t (x)")
        holder.execute("BEGIN EXCLUSIVE")
        attempts = []

        def write() -> str:
            attempts.append(1)
            if len(attempts) == 4:
                holder.execute("COMMIT")
            with closing(sqlite3.connect(path, timeout=0)) as database:
                database.execute("INSERT INTO t VALUES (1)")
                return "written"

        assert patience.patiently(write, "here", said.append) == "written"
    assert len(attempts) == 4
    assert said == ["the MLflow store here is locked by another process: waiting up to 600 s"]


def test_a_store_that_stays_locked_ends_with_one_line_and_the_way_out(tmp_path, said, monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)

    def write() -> None:
        raise sqlite3.OperationalError("database is locked")

    with pytest.raises(patience.StoreUnavailable, match=r"kept the MLflow store here locked.*same command.*fkal sync"):
        patience.patiently(write, "here", said.append)


@pytest.mark.parametrize(
    "reason", ["database is locked", "disk I/O error", "API request to http://x failed with exception y"]
)
def test_a_command_that_reads_promises_no_later_tracking(tmp_path, monkeypatch, reason):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = open_store(None)

    def search(**_: object) -> None:
        raise sqlite3.OperationalError(reason)

    monkeypatch.setattr(patience.impatient(client), "search_experiments", search)
    with pytest.raises(patience.StoreUnavailable) as refused:
        all_runs(client)
    assert str(refused.value).endswith("; give the same command again once it can be used")
    assert "finished rounds" not in str(refused.value)


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a pipe"), (os.mkdir, "a folder")])
def test_what_is_no_file_is_no_store(tmp_path, make, kind):
    make(tmp_path / "mlflow.db")
    with pytest.raises(StoreError, match=rf"mlflow\.db: an MLflow store is a file, and it is {kind}.*move it away"):
        prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_file_that_is_no_database_has_no_server_to_start(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match=r"not a database\); put a sound copy in its place, or move it away, or name"):
        prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_a_disk_without_room_for_a_lock_is_named_as_what_it_is(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match=r"mlflow\.db\.lock\.holder"):
            prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "mlflow.db").exists()


@pytest.fixture
def excepthook(monkeypatch):
    """Put back at the end."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.mark.usefixtures("excepthook")
@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://me:hunter22@127.0.0.1:1/mlflow",
        "postgresql+psycopg://me@127.0.0.1:1/mlflow?password=hunter22&sslpassword=hunter22",
        "postgresql+psycopg://me:hun%ZZter22@[::/mlflow?password=hunter22",
        "http://me:hunter22@127.0.0.1:1",
        "https://127.0.0.1:1/?token=hunter22",
        "ftp://me:hunter22@127.0.0.1/mlflow",
        "host=127.0.0.1 user=me password=hunter22",
    ],
)
def test_a_store_that_cannot_be_used_is_named_without_its_password(address, debug, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given, variable in ((["--tracking-uri", address], ""), ([], address)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
        result = CliRunner().invoke(app, ["runs", *given, *debug])
        told = result.output
        if debug:
            assert isinstance(result.exception, StoreError)
            sys.excepthook(type(result.exception), result.exception, result.exception.__traceback__)
            told += capsys.readouterr().err
        else:
            assert result.exit_code == 2, told
        assert "ter22" not in told
        assert "***" in told


@pytest.mark.parametrize(
    "address", ["postgresql+psycopg://me:hunter22@127.0.0.1:1/db", "nothing://me:hunter22@host/db?password=hunter22"]
)
def test_a_studys_database_that_cannot_be_used_is_named_without_its_password(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["tune", "--preset", "digits", "--method", "random", "--storage", address])
    assert result.exit_code == 2, result.output
    assert "hunter22" not in result.output
    assert "me:***@" in result.output
