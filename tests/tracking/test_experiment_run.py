"""Experiments as MLflow runs, on real sqlite stores."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file

from fkal.tracking.experiment_run import TrackedRun
from fkal.tracking.patience import PatientClient
from fkal.tracking.system_metrics import Meters

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


@pytest.fixture
def open_run(experiment, state, store, said):
    def opened(other=None, *, uri=store, monitor=False):
        return TrackedRun.open(other or experiment, state, uri=uri, say=said.append, monitor=monitor)

    return opened


@pytest.fixture
def client(store):
    return MlflowClient(store)


def runs(client, kind):
    return client.search_runs(["1"], f"tags.`fkal.kind` = '{kind}'", order_by=["attributes.run_name"])


def points(client, run_id):
    """How often each (metric, step) was logged."""
    keys = client.get_run(run_id).data.metrics
    return Counter((m.key, m.step) for key in keys for m in client.get_metric_history(run_id, key))


def artifact(client, run, name):
    return Path(client.download_artifacts(run.info.run_id, name))


def test_a_whole_experiment_is_a_parent_and_a_child_an_iteration(open_run, client, experiment, tiny_round, said):
    with open_run() as run:
        for b in (1, 2, 3):
            run.log(tiny_round(experiment, b))
        run.finish(model=False)

    (parent,) = runs(client, "experiment")
    children = runs(client, "round")
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "pfk_joint s0 tiny ir2"
    assert parent.data.tags["fkal.name"] == "tiny-ir2-pfk_joint-s0"
    assert [c.info.run_name for c in children] == [f"pfk_joint s0 round {b}" for b in (1, 2, 3)]
    assert {c.info.status for c in children} == {"FINISHED"}
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {parent.info.run_id}
    curve = [(m.step, m.value) for m in client.get_metric_history(parent.info.run_id, "accuracy/test")]
    assert curve == [(6 * b, tiny_round(experiment, b).metrics["test/accuracy"]) for b in (1, 2, 3)]
    assert parent.data.metrics["summary/aubc"] == pytest.approx(0.5)
    assert parent.data.metrics["summary/final_accuracy"] == pytest.approx(0.7)
    assert not {"summary/labels_to_90pct", "summary/energy_wh"} & set(parent.data.metrics)
    assert parent.data.tags["fkal.method"] == "pfk_joint"
    assert parent.data.tags["fkal.split_digest"] == experiment.split.digest
    assert parent.data.params["train.nesterov"] == "true"
    assert said == []


def test_a_child_has_the_costs_of_its_iteration(open_run, client, experiment, tiny_round):
    with open_run() as run:
        run.log(tiny_round(experiment, 2))
    (child,) = runs(client, "round")
    assert child.data.params["b"] == "2"
    assert child.data.params["train.lr"] == "0.1"
    metrics = child.data.metrics
    assert metrics["labels_used"] == 12
    assert metrics["cost/forward_images"] == 114
    assert metrics["cost/descriptors_backward_images"] == 90
    assert metrics["time/train_s"] == 0.5
    assert metrics["perf/descriptors_img_per_s"] == 360
    assert metrics["select/class_0"] == 2
    assert "gpu/max_mem_allocated_mb" not in metrics
    losses = [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, "train/loss")]
    assert losses == [(1, 1 / 3), (2, 0.2)]


def test_the_selection_can_be_read_again(open_run, client, experiment, tiny_round):
    finished = tiny_round(experiment, 1)
    with open_run() as run:
        run.log(finished)
    (child,) = runs(client, "round")
    table = pd.read_parquet(artifact(client, child, "selected.parquet"))
    chosen = finished.selection
    assert table["pick"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["index"].tolist() == chosen.indices.tolist()
    assert table["name"].tolist() == [f"train/{i}" for i in chosen.indices.tolist()]
    assert table["score"].tolist() == chosen.scores.tolist()
    assert table["matched_validation_index"].tolist() == chosen.matches.tolist()
    assert table["pseudo_label"].tolist() == chosen.pseudo_labels.tolist()
    assert table["label_name"].tolist() == [("cat", "dog", "owl")[k] for k in chosen.labels.tolist()]
    csv = pd.read_csv(artifact(client, child, "selected.csv"))
    assert csv.columns.tolist() == table.columns.tolist()
    assert csv["index"].tolist() == table["index"].tolist()
    told = json.loads(artifact(client, child, "summary.json").read_text())
    assert told["confusion"] == finished.confusion.tolist()
    weights = load_file(artifact(client, child, "weights.safetensors"))
    assert all(torch.equal(weights[name], finished.weights[name]) for name in finished.weights)


def test_what_a_method_does_not_know_is_missing_in_the_table(open_run, client, experiment, tiny_round):
    finished = tiny_round(experiment, 1)
    bare = replace(finished.selection, ranks=None, scores=None, matches=None, pseudo_labels=None)
    with open_run() as run:
        run.log(replace(finished, selection=bare))
    table = pd.read_parquet(artifact(client, runs(client, "round")[0], "selected.parquet"))
    assert table[["rank", "score", "matched_validation_index", "pseudo_label"]].isna().all().all()
    assert len(table) == 6


def test_the_parent_has_its_data_its_configuration_and_its_curve(open_run, client, experiment, tiny_round):
    with open_run() as run:
        run.log(tiny_round(experiment, 1))
        run.finish(model=False)
    (parent,) = runs(client, "experiment")
    inputs = {i.tags[0].value: i.dataset for i in parent.inputs.dataset_inputs}
    assert set(inputs) == {"pool", "validation", "test"}
    assert json.loads(inputs["validation"].profile)["class_counts"] == {"cat": 3, "dog": 3, "owl": 3}
    assert all(len(data.digest) <= 36 for data in inputs.values())
    params = yaml.safe_load(artifact(client, parent, "params.yaml").read_text())
    assert params["acquisition"] == {"taps": ["conv1", "fc1"], "budget": 6}
    assert artifact(client, parent, experiment.split_path.name).read_bytes() == experiment.split_path.read_bytes()
    assert pd.read_csv(artifact(client, parent, "curve.csv"))["labels_used"].tolist() == [6]
    assert artifact(client, parent, "curve.png").exists()


def test_a_killed_run_is_found_again_and_nothing_is_logged_twice(open_run, client, experiment, tiny_round):
    first = open_run().__enter__()  # never left: the process is gone
    first.log(tiny_round(experiment, 1))
    first.log(tiny_round(experiment, 2))
    (parent,) = runs(client, "experiment")
    assert parent.info.status == "RUNNING"

    with open_run() as second:
        second.replay([tiny_round(experiment, b) for b in (1, 2)])
        second.log(tiny_round(experiment, 3))
        second.finish(model=False)

    assert [p.info.run_id for p in runs(client, "experiment")] == [parent.info.run_id] == [second.run_id]
    children = runs(client, "round")
    assert len(children) == 3
    for run in (parent, *children):
        assert set(points(client, run.info.run_id).values()) == {1}
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_rounds_on_a_second_page_of_the_store_are_found_again(open_run, client, experiment, tiny_round, monkeypatch):
    with open_run() as first:
        for b in (1, 2, 3):
            first.log(tiny_round(experiment, b))
    made = {run.info.run_id for run in runs(client, "round")}
    search = MlflowClient.search_runs

    def on_small_pages(self, *given, **named):
        return search(self, *given, **{**named, "max_results": 2})

    with monkeypatch.context() as small:
        small.setattr(MlflowClient, "search_runs", on_small_pages)
        with open_run() as second:
            second.replay([tiny_round(experiment, b) for b in (1, 2, 3)])
    assert {run.info.run_id for run in runs(client, "round")} == made and len(made) == 3


def test_a_kill_between_state_and_store_is_made_good(open_run, client, experiment, tiny_round):
    first = open_run().__enter__()
    first.log(tiny_round(experiment, 1))
    with open_run() as second:  # round 2 is on disk only
        second.replay([tiny_round(experiment, b) for b in (1, 2)])
    (parent,) = runs(client, "experiment")
    assert points(client, parent.info.run_id)["accuracy/test", 12] == 1
    assert len(runs(client, "round")) == 2


@pytest.mark.parametrize("killed_at", ["log_artifacts", "log_batch", "set_terminated"])
def test_a_child_that_a_kill_left_half_logged_is_completed(
    open_run, client, experiment, tiny_round, monkeypatch, killed_at
):
    class Killed(BaseException):
        pass

    def kill(*_args, **_kwargs):
        raise Killed

    first = open_run().__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, killed_at, kill)
        with pytest.raises(Killed):
            first.log(tiny_round(experiment, 1))
    (half,) = runs(client, "round")
    assert half.info.status == "RUNNING"

    with open_run() as second:
        second.replay([tiny_round(experiment, 1)])
    (child,) = runs(client, "round")
    assert child.info.run_id == half.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params["b"] == "1"
    assert set(points(client, child.info.run_id).values()) == {1}
    assert artifact(client, child, "selected.parquet").exists()


def test_a_finished_experiment_is_left_as_it_is(open_run, client, experiment, tiny_round):
    with open_run() as run:
        run.log(tiny_round(experiment, 1))
        run.finish(model=False)
    (before,) = runs(client, "experiment")
    with open_run() as again:
        again.replay([tiny_round(experiment, 1)])
        again.finish(model=False)
    (after,) = runs(client, "experiment")
    assert after.info.end_time == before.info.end_time
    assert points(client, after.info.run_id) == points(client, before.info.run_id)


@pytest.mark.parametrize("lost", ["deleted", "another store"])
def test_a_run_that_is_gone_is_replayed_into_a_new_one(
    open_run, client, experiment, state, tiny_round, said, lost, empty_store, tmp_path
):
    with open_run() as run:
        run.log(tiny_round(experiment, 1))
    uri = client.tracking_uri
    if lost == "deleted":
        client.delete_run(run.run_id)
    else:
        uri = f"sqlite:///{tmp_path}/another.db"
        (tmp_path / "another.db").write_bytes(empty_store.read_bytes())
    with open_run(uri=uri) as new:
        new.replay([tiny_round(experiment, 1)])
    assert new.run_id != run.run_id
    assert state.run_ids()["parent"] == new.run_id
    assert run.run_id in said[0]
    found = MlflowClient(uri)
    assert set(points(found, new.run_id).values()) == {1}
    parents = {child.data.tags["mlflow.parentRunId"] for child in runs(found, "round")}
    assert new.run_id in parents


def test_a_run_is_found_by_its_tag_where_the_state_has_forgotten_it(open_run, client, experiment, state, tiny_round):
    with open_run() as run:
        run.log(tiny_round(experiment, 1))
    (state.path / "notes.json").unlink()
    with open_run() as again:
        again.replay([tiny_round(experiment, 1)])
    assert again.run_id == run.run_id


def test_an_iteration_that_came_out_otherwise_gets_a_run_of_its_own(open_run, client, experiment, tiny_round, said):
    with open_run() as run:
        for b in (1, 2):
            run.log(tiny_round(experiment, b))
        run.finish(model=False)
    other = tiny_round(experiment, 2, accuracy=0.25)
    with open_run() as again:
        again.replay([tiny_round(experiment, 1)])
        again.log(other)
        again.finish(model=False)
    assert "came out otherwise" in said[0]
    assert client.get_run(run.run_id).data.metrics["accuracy/test"] == pytest.approx(0.5)
    assert client.get_run(run.run_id).data.tags["fkal.superseded_key"] == experiment.fingerprint
    new = client.get_run(again.run_id)
    assert again.run_id != run.run_id
    assert new.data.metrics["accuracy/test"] == 0.25
    assert points(client, again.run_id)["accuracy/test", 6] == 1
    with open_run() as third:
        assert third.run_id == again.run_id


def import_error(cause: BaseException) -> ImportError:
    error = ImportError("initialization failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError(), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (import_error(KeyboardInterrupt()), "KILLED"),  # what an extension module makes of an interrupt
        (import_error(OSError()), "FAILED"),
    ],
)
def test_an_error_ends_the_run_until_it_is_taken_up_again(open_run, client, experiment, tiny_round, error, status):
    run = open_run()

    def fail():
        with run:
            run.log(tiny_round(experiment, 1))
            raise error

    with pytest.raises(type(error)):
        fail()
    assert client.get_run(run.run_id).info.status == status
    with open_run() as again:
        assert again.run_id == run.run_id
        assert client.get_run(run.run_id).info.status == "RUNNING"


@pytest.mark.parametrize(("error", "status"), [(MlflowException, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_error_before_the_first_iteration_leaves_no_run_at_work(open_run, client, monkeypatch, error, status):
    def fail(*_):
        raise error("now")

    monkeypatch.setattr(MlflowClient, "log_text", fail)
    with pytest.raises(error):
        open_run()
    (parent,) = runs(client, "experiment")
    assert parent.info.status == status


@pytest.mark.parametrize(
    ("owner", "step"), [(PatientClient, "_call"), (Meters, "start"), (TrackedRun, "_take_up"), (TrackedRun, "_found")]
)
def test_an_interrupt_at_any_step_of_the_start_leaves_no_run_at_work(open_run, client, monkeypatch, owner, step):
    call, is_past = getattr(owner, step), []

    def interrupted_after(self, *values, **named):
        result = call(self, *values, **named)
        if not is_past and (step != "_call" or values[0].__name__ == "create_run"):
            is_past.append(True)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, step, interrupted_after)
    with pytest.raises(KeyboardInterrupt), open_run(monitor=True):
        pass
    assert is_past
    assert [run.info.status for run in runs(client, "experiment")] == ([] if step == "_found" else ["KILLED"])


def test_a_dataset_that_another_process_enters_meanwhile_is_no_error(open_run, client, monkeypatch):
    log_inputs = MlflowClient.log_inputs
    refused = ["(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id"]

    def entered_twice(*given):
        if refused:
            raise MlflowException(refused.pop())
        log_inputs(*given)

    monkeypatch.setattr(MlflowClient, "log_inputs", entered_twice)
    with open_run() as run:
        assert len(client.get_run(run.run_id).inputs.dataset_inputs) == 3


def test_the_paper_protocol_is_marked(open_run, client, experiment, tiny_round, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "fkal.tracking.experiment_run.save_run_png", lambda path, frame, title, method: titles.append(title)
    )
    with open_run(replace(experiment, protocol="paper")) as run:
        run.log(tiny_round(experiment, 1))
        run.finish(model=False)
    (parent,) = runs(client, "experiment")
    assert parent.data.tags["fkal.protocol"] == "paper"
    assert "chosen on the TEST set" in parent.data.tags["mlflow.note.content"]
    assert "epoch chosen on the TEST set (authors' rule)" in titles[0]


def test_a_description_says_what_a_run_is_with_its_curve_and_its_command(open_run, client, experiment, tiny_round):
    with open_run() as run:
        begun = client.get_run(run.run_id).data.tags["mlflow.note.content"]
        run.log(tiny_round(experiment, 1))
        run.log(tiny_round(experiment, 2))
        run.finish(model=False)
    assert "**pfk_joint s0 tiny ir2**: at work." in begun and "curve.png" not in begun
    note = client.get_run(run.run_id).data.tags["mlflow.note.content"]
    assert "**pfk_joint s0 tiny ir2**: 50.0 % test accuracy with 12 labels." in note
    assert f"(get-artifact?path=curve.png&run_uuid={run.run_id})" in note
    assert "| 6 | 30.0 |" in note and "| 12 | 50.0 |" in note
    assert "fkal run --preset tiny --method pfk_joint --seeds 0" in note
    child = runs(client, "round")[1]
    of_round = child.data.tags["mlflow.note.content"]
    assert "**Round 2 of 3** of pfk_joint s0 tiny ir2: 6 images were picked and labeled, 12 by now" in of_round
    assert f"(get-artifact?path=selected.png&run_uuid={child.info.run_id})" in of_round


def test_the_model_has_the_last_accuracies_the_summary_and_the_dataset_they_are_measured_on(
    open_run, client, experiment, tiny_round
):
    with open_run() as run:
        run.log(tiny_round(experiment, 1))
        run.finish()
    tracked = client.get_run(run.run_id)
    (output,) = tracked.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.name == "pfk_joint-s0-tiny-ir2"
    shown = {name: v for name, v in tracked.data.metrics.items() if name.startswith(("accuracy/", "summary/"))}
    assert {metric.key: metric.value for metric in model.metrics} == shown
    assert {metric.dataset_name for metric in model.metrics} == {"tiny/test"}
    assert set(points(client, run.run_id).values()) == {1}


def test_the_model_can_be_loaded_and_is_the_last_iterations(
    open_run, client, store, experiment, tiny_round, monkeypatch, use_store
):
    import mlflow.pytorch

    last = tiny_round(experiment, 1)
    with open_run() as run:
        run.log(last)
        run.finish()
    with open_run() as again:
        again.replay([last])
        again.finish()
    (output,) = client.get_run(run.run_id).outputs.model_outputs
    assert output.step == 6
    use_store(store)
    loaded = mlflow.pytorch.load_model(f"models:/{output.model_id}")
    x = torch.randn(5, 1, 8, 8)
    experiment.model.load_state_dict(dict(last.weights))
    torch.testing.assert_close(loaded(x), experiment.model.eval()(x))
    served = mlflow.pyfunc.load_model(f"models:/{output.model_id}").predict(x[:3].numpy())
    torch.testing.assert_close(torch.as_tensor(served), loaded(x[:3]))


class Fickle(torch.nn.Module):
    """What a traced graph cannot hold."""

    def forward(self, x):
        return x.flatten(1) if x.sum().item() > 0 else -x.flatten(1)


def test_a_model_that_cannot_be_traced_is_reported_and_spoils_nothing(open_run, client, experiment, tiny_round, said):
    fickle = replace(experiment, model=Fickle())
    with open_run(fickle) as run:
        run.log(tiny_round(fickle, 1))
        run.finish()
    assert "cannot trace it (Fickle: " in said[0]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_many_metrics_and_long_params_fit(open_run, client, experiment, tiny_round):
    finished = replace(tiny_round(experiment, 1), train_loss=tuple(i / 7 for i in range(2500)))
    wide = {f"data.key{i}": i for i in range(250)} | {"data.long": "x" * 9000}
    with open_run(replace(experiment, params=wide)) as run:
        run.log(finished)
    (child,) = runs(client, "round")
    assert len(client.get_metric_history(child.info.run_id, "train/loss")) == 2500
    assert set(child.data.params) == {*wide, "b", "method", "bias"}
    assert child.data.params["data.long"].endswith("x ... (cut; 9000 characters in all)")


def test_system_metrics_go_on_where_they_were(open_run, client, experiment, tiny_round, monkeypatch, capfd):
    monkeypatch.setattr("fkal.tracking.system_metrics.SYSTEM_SECONDS", 0.2)
    for _ in range(2):
        with open_run(monitor=True):
            time.sleep(1)
    (parent,) = runs(client, "experiment")
    steps = [m.step for m in client.get_metric_history(parent.info.run_id, "system/cpu_utilization_percentage")]
    assert len(steps) >= 2
    assert len(set(steps)) == len(steps)
    assert capfd.readouterr() == ("", "")
