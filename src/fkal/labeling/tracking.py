"""A project in MLflow: an experiment by its name; a run for each selection, one for each training, the trained model.

The files of the project are the truth. What the store lacks of them is logged by the next command that writes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from fkal.atomic_files import naming
from fkal.config.schema import Config, ConfigError, flattened
from fkal.engine.rounds import Round
from fkal.labeling.batch import REQUEST, TO_LABEL, Batch
from fkal.labeling.books import Books
from fkal.labeling.heads import weights_today
from fkal.labeling.learner import Learner, grown, training_settings
from fkal.labeling.project import Project
from fkal.labeling.rounds import watched
from fkal.labeling.trainings import TRAINED, Training, read_round
from fkal.notify import PLAIN, Display
from fkal.tracking.dataset_inputs import measured_dataset
from fkal.tracking.metrics import Point, child_points, param_text
from fkal.tracking.model import EXAMPLES, NotTraceable, has_model, log_model
from fkal.tracking.run_writer import RunWriter, new_run
from fkal.tracking.store import experiment_id, prepare_store, tracking_uri
from fkal.tracking.tags import KEY, KIND, PROJECT
from fkal.version import __version__

WAITING = "fkal.waiting_for"
LABELS = "labels"
MOST_RUNS = 10_000


def mirror(
    project: Project, display: Display = PLAIN, *, uri: str | None = None, learner: Learner | None = None
) -> None:
    """Logs what the store lacks of the project's selections and trainings.

    `learner` is the one that trained last, which saves reading the images again. Raises StoreError where the store
    does not answer.
    """
    project = Project.open(project.folder)
    books = Books.of(project)
    client = prepare_store(tracking_uri(uri, project.folder), display.notify)
    experiment = experiment_id(client, project.name)
    found = client.search_runs([experiment], f"tags.`{PROJECT}` = '{project.name}'", max_results=MOST_RUNS)
    known = {run.data.tags.get(KEY, ""): run for run in found}
    for batch in books.batches:
        if batch.request.kind == "select":
            _track_selection(client, experiment, books, batch, known)
    for training in books.trainings:
        _track_training(client, experiment, books, training, known, display, learner)


def _track_selection(
    client: MlflowClient, experiment: str, books: Books, batch: Batch, known: Mapping[str, Run]
) -> None:
    """The run ends when the batch is written; its tag says that people are waited for until they are done."""
    key = f"{batch.name}/{batch.request.pool_digest}/{batch.request.time}"
    state = batch.state(books.live)
    run = known.get(key)
    if run is None:
        tags = {**_tags(books.project, "selection", key), "fkal.batch": batch.name, "fkal.method": batch.request.method}
        began = _milliseconds(batch.request.time)
        run = new_run(client, experiment, name=f"select {batch.name}", tags=tags, start_time=began)
    if run.info.status != "FINISHED":
        params = {
            "round": batch.request.round,
            "method": batch.request.method,
            "n": len(batch.images),
            "seed": batch.request.seed,
            "pool_digest": batch.request.pool_digest,
            "validation_digest": batch.request.validation_digest,
        }
        RunWriter(client, run).write([Point("select/images", float(len(batch.images)), batch.request.round)], params)
        for name in (TO_LABEL, REQUEST):
            client.log_artifact(run.info.run_id, str(batch.folder / name))
        client.set_terminated(run.info.run_id, "FINISHED")
    is_waiting = state == "open"
    if is_waiting and run.data.tags.get(WAITING) != LABELS:
        client.set_tag(run.info.run_id, WAITING, LABELS)
    if not is_waiting and WAITING in run.data.tags:
        client.delete_tag(run.info.run_id, WAITING)


def _track_training(
    client: MlflowClient,
    experiment: str,
    books: Books,
    training: Training,
    known: Mapping[str, Run],
    display: Display,
    learner: Learner | None,
) -> None:
    """A training that was made again, since labels changed, is another run; the last one has the model."""
    project, key = books.project, f"round {training.b}/{training.made_of}"
    run = known.get(key)
    is_last = books.last is not None and training.b == books.b
    if run is not None and run.info.status == "FINISHED" and (has_model(run) or not is_last):
        return
    finished = read_round(project, training)
    if finished is None:
        return
    if run is None:
        tags = {**_tags(project, "training", key), "fkal.round": str(training.b)}
        run = new_run(client, experiment, name=f"train round {training.b}", tags=tags)
    params = _params(training, project.config())
    points = [point for point in child_points(finished) if not point.key.startswith(("time/", "perf/"))]
    RunWriter(client, run).write(points, {"round": training.b, **params})
    with tempfile.TemporaryDirectory() as folder, naming(Path(folder)):
        copy = Path(folder) / TRAINED
        copy.write_text(json.dumps({"facts": dict(training.facts), "round": dict(training.round)}, indent=1))
        client.log_artifact(run.info.run_id, str(copy))
    if is_last and not has_model(run):
        _log_model(client, run, project, params, training, finished, display, learner)
    client.set_terminated(run.info.run_id, "FINISHED")


def _log_model(
    client: MlflowClient,
    run: Run,
    project: Project,
    params: Mapping[str, object],
    training: Training,
    finished: Round,
    display: Display,
    learner: Learner | None,
) -> None:
    """A model that the project's settings no longer make is reported and left out."""
    if learner is None:
        learner = watched(Learner.ready(project, project.config(), display), display, project.name)
    experiment = learner.experiment
    weights = weights_today(project, training, finished, learner)
    try:
        if weights is None:
            raise ConfigError("the images have changed since")
        grown(weights, learner.loop.theta_0)
    except ConfigError as error:
        display.notify(f"no loadable model of round {finished.b} in MLflow: {error}")
        return
    model, weights, examples = experiment.loadable(weights, EXAMPLES)
    try:
        log_model(
            client,
            run,
            model=model,
            weights=weights,
            examples=examples,
            step=finished.labels_used,
            params={key: param_text(value) for key, value in params.items()},
            dataset=measured_dataset(experiment, finished.measured),
        )
    except NotTraceable as error:
        display.notify(f"no loadable model in MLflow, as torch.export cannot trace it ({error})")


def _params(training: Training, config: Config) -> dict[str, object]:
    """The settings that a training read; of an earlier version's, which did not keep them, the project's own."""
    return dict(training.facts.get("settings") or flattened(training_settings(config)))


def _tags(project: Project, kind: str, key: str) -> dict[str, str]:
    return {KIND: kind, KEY: key, PROJECT: project.name, "fkal.version": __version__}


def _milliseconds(time: str) -> int | None:
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return None
