"""MLflow's settings, made by the package's import, since MLflow reads them while it is imported itself.

It sends nothing home, prints no links, logs no news of what went well.
"""

import logging
import os

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",  # the parent run has its own monitor
    # a server that is gone ends a run within a minute; its rounds are on disk, and the same command goes on
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "GIT_PYTHON_REFRESH": "quiet",
}
LONGEST_LINE = 300

for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised as well, with all of SQL


def _first_line_alone(record: logging.LogRecord) -> bool:
    """What could not be logged is in the first line; the statement and its values follow."""
    lines = record.getMessage().splitlines() or [""]
    record.msg, record.args, record.exc_info = lines[0][:LONGEST_LINE], (), None
    return True


logging.getLogger("mlflow.system_metrics.system_metrics_monitor").addFilter(_first_line_alone)
