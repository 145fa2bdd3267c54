"""Calls of a store that an interrupt does not break off."""

import os
import signal
import time

import pytest
from mlflow.exceptions import MlflowException

from fkal.tracking.patience import impatient, terminate_soon
from fkal.tracking.query import open_store
from fkal.tracking.run_writer import new_run
from fkal.tracking.store import prepare_store


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    return open_store(None)


def interrupted_before(call):
    """The call, with Ctrl-C on its way."""

    def changed(*values, **named):
        os.kill(os.getpid(), signal.SIGINT)
        return call(*values, **named)

    changed.__name__ = call.__name__
    return changed


def test_a_call_of_a_database_ends_before_the_interrupt_is_raised(client, monkeypatch):
    run = new_run(client, "0", name="a", tags={})
    bare = impatient(client)
    monkeypatch.setattr(bare, "set_tag", interrupted_before(bare.set_tag))
    with pytest.raises(KeyboardInterrupt):
        client.set_tag(run.info.run_id, "b", "c")
    assert client.get_run(run.info.run_id).data.tags["b"] == "c"


def test_copies_of_files_can_be_interrupted(client, monkeypatch):
    run = new_run(client, "0", name="a", tags={})
    bare = impatient(client)
    monkeypatch.setattr(bare, "log_text", interrupted_before(bare.log_text))
    with pytest.raises(KeyboardInterrupt):
        client.log_text(run.info.run_id, "text", "a.txt")
    assert bare.list_artifacts(run.info.run_id) == []


def test_a_run_that_an_interrupt_ends_is_terminated_whole(client, monkeypatch):
    run = new_run(client, "0", name="a", tags={})
    bare = impatient(client)
    monkeypatch.setattr(bare, "set_terminated", interrupted_before(bare.set_terminated))
    with pytest.raises(KeyboardInterrupt):
        terminate_soon(client, run.info.run_id, "KILLED")
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def test_a_store_that_is_locked_for_a_moment_is_told_the_end_of_a_run(client, monkeypatch):
    run = new_run(client, "0", name="a", tags={})
    bare = impatient(client)
    terminate, refused = bare.set_terminated, ["database is locked", "database table is locked"]

    def locked(*values):
        if refused:
            raise MlflowException(refused.pop())
        terminate(*values)

    monkeypatch.setattr(bare, "set_terminated", locked)
    terminate_soon(client, run.info.run_id, "KILLED")
    assert client.get_run(run.info.run_id).info.status == "KILLED"


@pytest.mark.parametrize("reason", ["database is locked", "no such run"])
def test_a_store_that_cannot_be_told_the_end_of_a_run_is_no_error(client, monkeypatch, reason):
    tried = []

    def fails(*_):
        tried.append(time.monotonic())
        raise MlflowException(reason)

    monkeypatch.setattr("fkal.tracking.patience.SOON_SECONDS", 0.3)
    monkeypatch.setattr(impatient(client), "set_terminated", fails)
    terminate_soon(client, "a", "KILLED")
    assert (len(tried) > 1) == (reason == "database is locked")
