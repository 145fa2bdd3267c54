"""One run of the store, written append-only: metrics cannot be rewritten, so only what it lacks is logged."""

import time
from collections.abc import Iterable, Mapping
from itertools import batched
from typing import Any

import fkal.edge.quiet_mlflow

# isort: split
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from fkal.edge.facts import Point, param_text

MAX_TAG_LENGTH = 5000


class Ledger:
    """Holds what one run has, and adds to it."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client = client
        self.run = run
        self._params = set(run.data.params)
        self._steps: dict[str, set[int]] = {}

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    def lacks(self, points: Iterable[Point]) -> list[Point]:
        """Those whose metric has no value at their step."""
        return [point for point in points if point.step not in self._known_steps(point.key)]

    def write(
        self, points: Iterable[Point] = (), params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
    ) -> bool:
        """Log what the run lacks, in as few batches as MLflow takes; tags are set anew. Whether it lacked any."""
        new = self.lacks(points)
        lacking = {key: value for key, value in (params or {}).items() if key not in self._params}
        now = int(time.time() * 1000)
        metrics = [Metric(point.key, point.value, now, point.step) for point in new]
        texts = [Param(key, _fitted(param_text(value), MAX_PARAM_VAL_LENGTH)) for key, value in lacking.items()]
        labels = [RunTag(key, _fitted(value, MAX_TAG_LENGTH)) for key, value in (tags or {}).items()]
        for some in batched(texts, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run_id, params=list(some), synchronous=True)
        for some in batched(labels, MAX_PARAMS_TAGS_PER_BATCH):
            self._client.log_batch(self.run_id, tags=list(some), synchronous=True)
        for some in batched(metrics, MAX_METRICS_PER_BATCH):
            self._client.log_batch(self.run_id, metrics=list(some), synchronous=True)
        self._params |= set(lacking)
        for point in new:
            self._known_steps(point.key).add(point.step)
        return bool(new or lacking)

    def _known_steps(self, key: str) -> set[int]:
        if key not in self._steps:
            has_any = key in self.run.data.metrics
            history = self._client.get_metric_history(self.run_id, key) if has_any else ()
            self._steps[key] = {metric.step for metric in history}
        return self._steps[key]


def _fitted(text: str, limit: int) -> str:
    """MLflow refuses longer values, or cuts them without a word."""
    if len(text) <= limit:
        return text
    marker = f" ... (cut; {len(text)} characters in all)"
    return text[: limit - len(marker)] + marker
