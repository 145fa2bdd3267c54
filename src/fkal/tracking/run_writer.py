"""One run of the store, written append-only: metrics cannot be rewritten, so only what it lacks is logged."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.validation import MAX_ENTITIES_PER_BATCH, MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

from fkal.escaping import storable
from fkal.tracking.metrics import Point, param_text

MAX_TAG_LENGTH = 5000
MAX_TEXTS = MAX_PARAMS_TAGS_PER_BATCH
T = TypeVar("T")


def new_run(
    client: MlflowClient,
    experiment_id: str,
    *,
    name: str,
    tags: Mapping[str, str],
    start_time: int | None = None,
) -> Run:
    """A run whose name and tags the store can hold."""
    texts = {key: _fitted(storable(value), MAX_TAG_LENGTH) for key, value in tags.items()}
    return client.create_run(experiment_id, start_time=start_time, tags=texts, run_name=storable(name))


class RunWriter:
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
        self,
        points: Iterable[Point] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> bool:
        """Log what the run lacks, in as few batches as MLflow takes; tags are set again. Says whether it lacked any."""
        new = self.lacks(points)
        lacking = {key: value for key, value in (params or {}).items() if key not in self._params}
        now = int(time.time() * 1000)
        metrics = [Metric(point.key, point.value, now, point.step) for point in new]
        texts = [
            Param(storable(key), _fitted(param_text(value), MAX_PARAM_VAL_LENGTH)) for key, value in lacking.items()
        ]
        labels = [RunTag(key, _fitted(storable(value), MAX_TAG_LENGTH)) for key, value in (tags or {}).items()]
        chunks = (
            _chunks(metrics, MAX_ENTITIES_PER_BATCH - 2 * MAX_TEXTS),
            _chunks(texts, MAX_TEXTS),
            _chunks(labels, MAX_TEXTS),
        )
        for some_metrics, some_params, some_tags in zip_longest(*chunks, fillvalue=()):
            self._client.log_batch(self.run_id, some_metrics, some_params, some_tags, synchronous=True)
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


def _chunks(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _fitted(text: str, limit: int) -> str:
    """MLflow refuses longer values, or cuts them without a word."""
    if len(text) <= limit:
        return text
    marker = f" ... (cut; {len(text)} characters in all)"
    return text[: limit - len(marker)] + marker
