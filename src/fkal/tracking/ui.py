"""The command that opens the MLflow UI on a store."""

import shlex
import sys
from pathlib import Path


def ui_command(uri: str) -> str:
    """For a database on this machine; a server's own address is its UI.

    The server's job processes, which take 1.7 GB and serve nothing here, are left out.
    """
    if uri.startswith("http"):
        return uri
    mlflow = Path(sys.executable).with_name("mlflow")
    return (
        f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {shlex.quote(str(mlflow))} ui --backend-store-uri {shlex.quote(uri)}"
    )
