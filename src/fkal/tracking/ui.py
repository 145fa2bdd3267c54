"""The commands of MLflow that open its UI on a store, and clean it."""

import os
import shlex
import sys
from pathlib import Path

from fkal.redaction import has_secret, without_login

VARIABLE = "MLFLOW_TRACKING_URI"


def ui_command(uri: str) -> str:
    """For a database on this machine; a server's own address is its UI, which asks for a password itself.

    The server's job processes, which take 1.7 GB and serve nothing here, are left out.
    """
    if uri.startswith("http"):
        return without_login(uri)
    mlflow = shlex.quote(str(Path(sys.executable).with_name("mlflow")))
    settings = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false"
    if has_secret(uri):  # as a variable the address is in no list of processes
        return f"MLFLOW_BACKEND_STORE_URI={store_argument(uri)} {settings} {mlflow} ui"
    return f"{settings} {mlflow} ui --backend-store-uri {store_argument(uri)}"


def store_argument(uri: str) -> str:
    """The address as a word of a shell's command; one with a password as the variable that holds it."""
    return f'"${VARIABLE}"' if has_secret(uri) else shlex.quote(uri)


def ui_hint(uri: str) -> str:
    """What the user has to do before `store_argument` works; nothing where it does already."""
    is_needed = has_secret(uri) and os.environ.get(VARIABLE) != uri
    return f" (first put the address, with its password, into {VARIABLE})" if is_needed else ""
