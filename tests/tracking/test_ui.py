"""The command that opens the UI."""

import os
import shlex

from fkal.tracking.ui import store_argument, ui_command, ui_hint

SECRET = "postgresql+psycopg://me:hunter22@host/db"


def test_an_address_without_a_password_is_an_argument():
    words = shlex.split(ui_command("sqlite:////home/it's mine/mlflow.db"))
    assert words == ["fkal", "ui", "--tracking-uri", "sqlite:////home/it's mine/mlflow.db"]
    assert ui_hint("sqlite:////home/it's mine/mlflow.db") == ""


def test_an_address_with_a_password_is_read_from_the_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert ui_command(SECRET) == "fkal ui"
    assert store_argument(SECRET) == '"$MLFLOW_TRACKING_URI"'
    assert "into MLFLOW_TRACKING_URI" in ui_hint(SECRET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SECRET)
    assert ui_hint(SECRET) == ""
    assert os.path.expandvars(shlex.split(store_argument(SECRET))[0]) == SECRET


def test_a_server_is_its_own_ui_and_asks_for_the_password():
    assert ui_command("https://me:hunter22@host:5000") == "https://host:5000"
