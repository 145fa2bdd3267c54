"""A project in MLflow."""

import mlflow.pytorch
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from fkal.cli.main import app
from fkal.errors import MissingRuns
from fkal.labeling.rounds import next_, select, train
from fkal.labeling.tracking import mirror
from fkal.labeling.trainings import read_round, trainings
from fkal.notify import PLAIN
from fkal.tracking.query import open_store, own_pools, refuse_empty
from fkal.tracking.store import prepare_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def runs(store: str, kind: str) -> list:
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("fkal/signs")
    found = client.search_runs([experiment.experiment_id], f"tags.`fkal.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.run_name)


@pytest.mark.slow
def test_selections_wait_for_labels_and_trainings_have_their_model(signs, store, use_store):
    made = signs()
    asked = select(made.project)
    mirror(made.project, uri=store)
    (selection,) = runs(store, "selection")
    assert selection.info.status == "FINISHED"
    assert selection.data.tags["fkal.waiting_for"] == "labels"
    assert selection.data.params["n"] == "6"
    names = {file.path for file in MlflowClient(tracking_uri=store).list_artifacts(selection.info.run_id)}
    assert names == {"to_label.csv", "request.json"}
    made.answer(asked.batch)
    trained, _ = next_(made.again())
    mirror(made.project, uri=store, learner=trained.learner)
    first, second = runs(store, "selection")
    assert "fkal.waiting_for" not in first.data.tags
    assert second.data.tags["fkal.waiting_for"] == "labels"
    (training,) = runs(store, "training")
    last = trainings(made.again())[-1]
    assert training.info.status == "FINISHED"
    assert training.data.metrics["accuracy/validation"] == pytest.approx(last.metrics["val/accuracy"])
    (output,) = training.outputs.model_outputs
    logged = MlflowClient(tracking_uri=store).get_logged_model(output.model_id)
    assert {metric.key: metric.value for metric in logged.metrics}["accuracy/validation"] == pytest.approx(
        last.metrics["val/accuracy"]
    )
    use_store(store)
    loaded = mlflow.pytorch.load_model(f"models:/{output.model_id}")
    weights = read_round(made.again(), last).weights
    state = dict(loaded.state_dict())
    kernels = [value for value in weights.values() if value.dim() == 4]
    assert kernels and all(any(torch.equal(value, each) for each in state.values()) for value in kernels)
    mirror(made.again(), uri=store)
    assert len(runs(store, "selection")) == 2 and len(runs(store, "training")) == 1


@pytest.mark.slow
def test_a_training_is_tracked_with_the_settings_it_had_whatever_the_project_has_now(signs, store):
    made = signs()
    made.answer(select(made.project).batch)
    train(made.again(), ["train.epochs=2", "train.decay_epochs=[]", "model.name=resnet10"])
    said: list[str] = []
    mirror(made.again(), PLAIN._replace(notify=said.append), uri=store)
    (training,) = runs(store, "training")
    assert training.data.params["train.epochs"] == "2" and training.data.params["model.name"] == "resnet10"
    assert training.info.status == "FINISHED" and not training.outputs.model_outputs
    told = "no loadable model of round 1 in MLflow: the last round trained another model, or another number of networks"
    assert any(line.startswith(told) for line in said)


def test_runs_and_ui_say_what_a_store_of_own_pools_tracks(signs, store):
    made = signs()
    select(made.project)
    mirror(made.project, uri=store)
    client = open_store(store)
    assert own_pools(client) == ["signs"]
    refuse_empty(client)
    for command in (["runs"], ["runs", "export", "x.csv"], ["runs", "rm", "--method", "random", "--yes"]):
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 4
        assert "the selections and trainings of signs; `fkal status` shows the rounds" in told.stderr


def test_a_store_without_runs_of_a_project_names_none(store):
    client = prepare_store(store)
    assert own_pools(client) == []
    with pytest.raises(MissingRuns, match="no experiment is tracked"):
        refuse_empty(client)
