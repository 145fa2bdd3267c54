"""Passwords in addresses and in other programs' messages."""

import logging
import subprocess
import sys

import pytest

from fkal import redaction
from fkal.redaction import has_secret, redact_log, redacted, remember_address, without_login


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())
    for name in (*redaction.SECRET_VARIABLES, *redaction.ADDRESS_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://me:hunter22@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("postgresql://me:hun@ter/22@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:hunter22@host/db", "postgresql://:***@host/db"),
        ("https://me:hunter22@host/path", "https://me:***@host/path"),
        ("https://hunter22@host/path", "https://***@host/path"),
        ("postgresql://me@host/db?password=hunter22&sslmode=require", "postgresql://me@host/db?password=***&sslmode=require"),
        ("postgresql://me@host/db?sslpassword=hunter22", "postgresql://me@host/db?sslpassword=***"),
        ("https://host/?access_token=hunter22#top", "https://host/?access_token=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dhunter22", "mssql+pyodbc:///?odbc_connect=***"),
        ("host=there user=me password='hunter 22' dbname=db", "host=there user=me password=*** dbname=db"),
        ("cannot reach {'user': 'me', 'password': 'hunter22'}", "cannot reach {'user': 'me', 'password': '***'}"),
        ("Authorization: Basic bWU6aHVudGVyMjI=", "Authorization: ***"),
        ("two: https://a:hunter22@b, https://c:hunter22@d", "two: https://a:***@b, https://c:***@d"),
    ],
)  # fmt: skip
def test_a_password_in_a_text_is_masked(address, shown):
    assert redacted(address) == shown
    assert redacted(shown) == shown
    assert has_secret(address)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////home/me/a:b@c/mlflow.db",
        "sqlite+pysqlite:////home/me/a%3Fb/mlflow.db",
        "postgresql://me@host:5432/db",
        "http://127.0.0.1:5000",
        "http://host:5000/#/experiments/1, or write to me@host",
        'FATAL: password authentication failed for user "me"',
        "the token was refused",
        "databricks",
    ],
)
def test_a_text_without_a_password_is_left_as_it_is(address):
    assert redacted(address) == address
    assert not has_secret(address)


def test_a_message_that_repeats_the_password_alone_is_masked_once_the_address_is_known():
    remember_address("postgresql://me:hun%40ter22@host/db?sslpassword=corr%20ect")
    assert (
        redacted("no entry for hun@ter22, hun%40ter22 or 'corr ect' at host")
        == "no entry for ***, *** or '***' at host"
    )


def test_a_password_that_is_also_a_name_masks_no_other_word():
    remember_address("postgresql://mlflow:mlflow@db/mlflow")
    assert redacted("mlflow: postgresql://mlflow:mlflow@db/mlflow") == "mlflow: postgresql://mlflow:***@db/mlflow"


def test_the_variables_of_mlflow_are_masked(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "to.ken+22")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:correct@host")
    assert redacted("hunter22, to.ken+22, correct, hunter221") == "***, ***, ***, hunter221"


def test_a_server_is_opened_without_its_login():
    assert without_login("https://me:hunter22@host:5000/path") == "https://host:5000/path"
    assert without_login("http://host:5000") == "http://host:5000"


def test_a_log_has_no_passwords_neither_in_messages_nor_in_tracebacks(capsys):
    logger, handler = logging.getLogger("fkal-test"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        redact_log("fkal-test")
        redact_log("fkal-test")
        assert len(handler.filters) == 1
        try:
            raise ValueError("postgresql://me:hunter22@host/db")
        except ValueError:
            logging.getLogger("fkal-test.below").exception("cannot reach %s", "https://me:hunter22@host")
    finally:
        logger.removeHandler(handler)
    told = capsys.readouterr().err
    assert "hunter22" not in told
    assert "cannot reach https://me:***@host\nTraceback" in told
    assert "ValueError: postgresql://me:***@host/db" in told


def test_the_traceback_of_debug_has_no_password():
    program = (
        "from fkal.cli.exit import cli_errors\n"
        "with cli_errors(debug=True):\n"
        "    raise ValueError('postgresql://me:hunter' + '22@host/db')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr and "postgresql://me:***@host/db" in ended.stderr
    assert "hunter22" not in ended.stderr
