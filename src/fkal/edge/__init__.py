"""Where the outside is: the command line, the tracking store, files, figures."""

from fkal.tracking import mlflow_env as quiet_mlflow  # before any module here can import mlflow
