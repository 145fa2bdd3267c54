"""Where the outside is: the command line, the tracking store, files, figures."""

from fkal.edge import quiet_mlflow as quiet_mlflow  # before any module here can import mlflow
