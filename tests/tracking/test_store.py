"""The MLflow store."""

import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fkal.tracking.store import artifact_location, experiment_id, prepare_store, tracking_uri

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


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
    with pytest.raises(ValueError, match=rf"http://127\.0\.0\.1:{port} cannot be used.*--tracking-uri"):
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


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"my thesis, chapter one. " * 100)
    with pytest.raises(ValueError, match=r"cannot be used \(file is not a database\)"):
        prepare_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"my thesis, chapter one. " * 100


def test_half_made_tables_are_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (id INTEGER)")
    with pytest.raises(ValueError, match="half made; move it away"):
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
