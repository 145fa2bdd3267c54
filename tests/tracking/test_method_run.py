"""The run of a method, above the runs of its seeds, on real sqlite stores."""

from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType

from fkal.results.checkpoint import Checkpoint
from fkal.tracking.experiment_run import TrackedRun
from fkal.tracking.method_run import remake_method_run
from fkal.tracking.tags import method_key

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:sqlalchemy.exc.SADeprecationWarning"  # MLflow 3.17's use of SQLAlchemy 2.1
)


@pytest.fixture
def client(store):
    return MlflowClient(store)


@pytest.fixture
def seed_run(experiment, tiny_round, store, tmp_path):
    """Tracks an experiment of this seed; its run id."""

    def tracked(seed: int, accuracy: float, *, ends: bool = True, digest: str = "fedcba9876543210") -> str:
        one = replace(
            experiment,
            name=f"tiny-ir2-pfk_joint-s{seed}",
            title=f"pfk_joint s{seed} tiny ir2",
            fingerprint=f"{digest:0<31}{seed}",
            method_digest=digest,
            seed=seed,
            params={**experiment.params, "seed": seed},
        )
        with Checkpoint(tmp_path / "out", one.fingerprint) as state:
            run = TrackedRun.open(one, state, uri=store, say=print, monitor=False).__enter__()
            for b in (1, 2):
                run.log(tiny_round(one, b, accuracy=accuracy / b))
            if ends:
                run.finish(model=False)
            return run.run_id

    return tracked


def methods(client, view=ViewType.ACTIVE_ONLY):
    return client.search_runs(["1"], "tags.`fkal.kind` = 'method'", run_view_type=view)


def parent_of(client, run_id):
    return client.get_run(run_id).data.tags.get("mlflow.parentRunId")


def test_a_method_is_the_mean_and_the_deviation_over_its_seeds_by_labels_used(client, seed_run):
    accuracies = {0: 0.5, 1: 0.7, 3: 0.9}
    seeds = {seed: seed_run(seed, accuracy) for seed, accuracy in accuracies.items()}
    method_id = remake_method_run(client, seeds[0])
    (method,) = methods(client)
    assert method.info.run_id == method_id
    assert (method.info.run_name, method.info.status) == ("pfk_joint tiny ir2", "FINISHED")
    assert method.data.tags["fkal.name"] == "tiny-ir2-pfk_joint"
    curve = {m.step: m.value for m in client.get_metric_history(method_id, "accuracy/test")}
    assert curve == pytest.approx({6: mean(accuracies.values()), 12: mean(a / 2 for a in accuracies.values())})
    spread = {m.step: m.value for m in client.get_metric_history(method_id, "spread/test")}
    assert spread == pytest.approx({6: stdev(accuracies.values()), 12: stdev(a / 2 for a in accuracies.values())})
    summaries = [client.get_run(run_id).data.metrics["summary/aubc"] for run_id in seeds.values()]
    assert method.data.metrics["summary/aubc"] == pytest.approx(mean(summaries))
    assert "seed" not in method.data.params
    assert (method.data.params["seeds"], method.data.params["train.lr"]) == ("0-1,3", "0.1")
    assert {parent_of(client, run_id) for run_id in seeds.values()} == {method_id}


def test_a_method_has_its_curve_its_settings_and_the_command_of_all_seeds(client, seed_run, tmp_path):
    for seed in (0, 1):
        run_id = seed_run(seed, 0.5 + seed / 4)
    method_id = remake_method_run(client, run_id)
    note = client.get_run(method_id).data.tags["mlflow.note.content"]
    assert "**pfk_joint tiny ir2**: 31.2 ± 8.8 % test accuracy with 12 labels (mean over seeds 0-1)." in note
    assert f"get-artifact?path=curve.png&run_uuid={method_id}" in note
    assert "fkal run --preset tiny --method pfk_joint --seeds 0-1" in note
    files = {each.path for each in client.list_artifacts(method_id)}
    assert files == {"curve.png", "curve.csv", "params.yaml"}
    numbers = pd.read_csv(client.download_artifacts(method_id, "curve.csv", str(tmp_path)))
    assert numbers[["seed", "labels_used"]].values.tolist() == [[0, 6], [0, 12], [1, 6], [1, 12]]
    settings = client.download_artifacts(method_id, "params.yaml", str(tmp_path))
    with Path(settings).open() as file:
        assert yaml.safe_load(file)["train"]["lr"] == 0.1


def test_a_new_seed_makes_the_run_again_and_deletes_the_one_before(client, seed_run):
    first = seed_run(0, 0.5)
    before = remake_method_run(client, first)
    assert "spread/test" not in client.get_run(before).data.metrics
    assert remake_method_run(client, first) == before
    second = seed_run(1, 0.7)
    after = remake_method_run(client, second)
    assert [run.info.run_id for run in methods(client)] == [after] != [before]
    assert [run.info.run_id for run in methods(client, ViewType.DELETED_ONLY)] == [before]
    assert parent_of(client, first) == parent_of(client, second) == after


def test_other_settings_are_another_method_of_the_same_name(client, seed_run):
    for digest in ("a" * 16, "b" * 16):
        remake_method_run(client, seed_run(0, 0.5, digest=digest))
    assert [run.info.run_name for run in methods(client)] == ["pfk_joint tiny ir2"] * 2


def test_a_seed_that_is_not_finished_counts_for_nothing(client, seed_run):
    assert remake_method_run(client, seed_run(0, 0.5, ends=False)) is None
    assert methods(client) == []
    done = remake_method_run(client, seed_run(1, 0.7))
    assert client.get_run(done).data.params["seeds"] == "1"


def test_a_superseded_run_is_below_its_method_and_counts_for_nothing(client, seed_run):
    old = seed_run(0, 0.5)
    new = seed_run(0, 0.75)
    method_id = remake_method_run(client, new)
    assert client.get_run(method_id).data.metrics["accuracy/test"] == pytest.approx(0.375)
    assert parent_of(client, old) == parent_of(client, new) == method_id


@pytest.mark.parametrize("tag", ["fkal.seed", "fkal.cell"])
def test_a_run_whose_tag_was_removed_by_hand_counts_for_nothing(client, seed_run, tag):
    kept, damaged = seed_run(0, 0.5), seed_run(1, 0.9)
    client.delete_tag(damaged, tag)
    method = client.get_run(remake_method_run(client, kept))
    assert method.data.params["seeds"] == "0"


def test_a_method_without_seeds_is_deleted(client, seed_run):
    run_id = seed_run(0, 0.5)
    remake_method_run(client, run_id)
    client.delete_run(run_id)
    assert remake_method_run(client, run_id) is None
    assert methods(client) == []


def test_a_run_of_an_earlier_version_has_no_method_until_it_is_tracked_again(client, seed_run):
    run_id = seed_run(0, 0.5)
    client.delete_tag(run_id, "fkal.method_key")
    assert remake_method_run(client, run_id) is None
    client.update_run(run_id, name="tiny-ir2-pfk_joint-s0")
    assert seed_run(0, 0.5) == run_id
    assert client.get_run(run_id).info.run_name == "pfk_joint s0 tiny ir2"
    assert remake_method_run(client, run_id) is not None


def on_images(experiment, digest: str):
    """The experiment on other images."""
    return replace(experiment, split=replace(experiment.split, data_digest=digest))


def test_seeds_on_other_images_have_a_method_run_of_their_own(experiment):
    one, other = on_images(experiment, "1" * 32), on_images(experiment, "2" * 32)
    assert method_key(one) != method_key(other)
    assert method_key(one) == method_key(replace(one, seed=1, name="tiny-ir2-pfk_joint-s1"))


def test_a_run_says_which_images_it_had(client, seed_run, experiment):
    run_id = seed_run(0, 0.8)
    remake_method_run(client, run_id)
    (method,) = methods(client)
    digests = {run.data.tags["fkal.data_digest"] for run in (client.get_run(run_id), method)}
    assert digests == {experiment.split.data_digest}


def test_runs_of_an_earlier_key_are_put_under_the_new_one_and_none_is_left_over(client, seed_run):
    runs = [seed_run(seed, 0.8) for seed in (0, 1)]
    for run_id in runs:
        client.set_tag(run_id, "fkal.method_key", "tiny-ir2-pfk_joint/earlier/2")
    remake_method_run(client, runs[0])
    (earlier,) = methods(client)
    again = [seed_run(seed, 0.8) for seed in (0, 1)]
    assert again == runs
    remake_method_run(client, runs[0])
    (method,) = methods(client)
    assert method.info.run_id != earlier.info.run_id
    assert {parent_of(client, run_id) for run_id in runs} == {method.info.run_id}
