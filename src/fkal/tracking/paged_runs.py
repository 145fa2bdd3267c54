"""All runs that a query finds: a store answers a page at a time."""

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Run

PAGE = 500


def paged_runs(client: MlflowClient, experiment_id: str, query: str) -> Iterator[Run]:
    """Of one experiment of MLflow, newest first."""
    token = None
    while True:
        page = client.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
