"""MLflow: runs, metrics, artifacts and the store that holds them."""

from fkal.tracking import mlflow_env as mlflow_env  # before any module here can import mlflow
