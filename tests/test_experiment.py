import json
import subprocess
import sys

import pytest
import torch

from fkal import config as C
from fkal.config import Config, ConfigError
from fkal.core.randomness import stream
from fkal.engine.metering import Progress
from fkal.engine.rounds import Round
from fkal.experiment import device_named, prepare
from fkal.identity import bias_name, method_name
from fkal.models import head_name

QUICK = ("pretrain.epochs=1", "train.epochs=2", "acquisition.rounds=2")


def digits(*assignments: str) -> Config:
    return C.merged([C.from_file(C.preset("digits"), "preset digits"), C.from_assignments([*QUICK, *assignments])])


def quiet(message: str) -> None:
    raise AssertionError(f"said {message!r}")


def rounds(config: Config, out) -> list[Round]:
    return [event for event in prepare(config, out, quiet).events() if isinstance(event, Round)]


def fingerprint(out, *assignments: str) -> str:
    return prepare(digits(*assignments), out, quiet).fingerprint


def test_two_runs_of_one_seed_are_equal_to_the_bit(tmp_path):
    once, again = rounds(digits(), tmp_path / "a"), rounds(digits(), tmp_path / "b")
    for first, second in zip(once, again, strict=True):
        assert first.metrics == second.metrics
        assert first.train_loss == second.train_loss
        assert torch.equal(first.selection.indices, second.selection.indices)
        assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


@pytest.mark.parametrize("task", ["none", "rotation"])
def test_one_experiment_can_be_run_again(task, tmp_path):
    experiment = prepare(digits(f"pretrain.task={task}"), tmp_path, quiet)
    once, again = ([e for e in experiment.events() if isinstance(e, Round)] for _ in range(2))
    assert [r.metrics for r in once] == [r.metrics for r in again]
    assert torch.equal(once[-1].selection.indices, again[-1].selection.indices)


def test_what_was_drawn_elsewhere_before_has_no_influence(tmp_path):
    torch.manual_seed(1)
    once = rounds(digits("acquisition.rounds=1"), tmp_path / "a")
    torch.rand(77)
    again = rounds(digits("acquisition.rounds=1"), tmp_path / "b")
    assert once[0].metrics == again[0].metrics


@pytest.mark.parametrize(
    "assignment",
    ["train.lr=0.2", "seed=1", "bias.ratio=5", "pretrain.epochs=2", "acquisition.combine=sum", "threads=2",
     "protocol=paper", "data.mean=[0.1]", "acquisition.taps=[conv2]", "train.start=theta_0"],
)  # fmt: skip
def test_what_bears_on_the_result_changes_the_fingerprint(assignment, tmp_path):
    assert fingerprint(tmp_path, assignment) != fingerprint(tmp_path)


@pytest.mark.parametrize("assignment", ["data.root=/elsewhere", "data.workers=0"])
def test_where_the_data_lie_does_not(assignment, tmp_path):
    assert fingerprint(tmp_path, assignment) == fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("name", "unread"),
    [
        ("random", "acquisition.taps=[conv2]"),
        ("random", "acquisition.pseudo_label=true"),
        ("random", "acquisition.combine=sum"),
        ("pcc", "acquisition.pseudo_label=true"),
        ("pcc", "acquisition.combine=sum"),
    ],
)
def test_settings_that_a_method_does_not_read_make_no_new_experiment(name, unread, tmp_path):
    method = f"acquisition.name={name}"
    assert fingerprint(tmp_path, method, unread) == fingerprint(tmp_path, method)


def test_theta_0_is_pretrained_all_but_the_head_and_shared_by_methods(tmp_path):
    def theta_0(config: Config) -> tuple[dict, list[Progress], dict]:
        experiment = prepare(config, tmp_path, quiet)
        first = {name: value.clone() for name, value in experiment.model.state_dict().items()}
        work, seen = experiment.theta_0(), []
        while True:
            try:
                seen.append(next(work))
            except StopIteration as end:
                return dict(end.value), seen, first

    weights, progress, first = theta_0(digits())
    assert [p.done for p in progress] == [1]
    head = head_name(prepare(digits(), tmp_path, quiet).model)
    for name, value in weights.items():
        assert torch.equal(value, first[name]) == name.startswith(f"{head}."), name
    again, progress, _ = theta_0(digits("acquisition.name=random", "train.lr=0.3"))
    assert not progress
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    random_start, progress, first = theta_0(digits("pretrain.task=none"))
    assert not progress
    assert all(torch.equal(value, first[name]) for name, value in random_start.items())


def test_a_model_without_a_head_to_leave_random_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.name"):
        prepare(
            digits("model.name=squeezenet1_1", "data.image_size=64", "acquisition.taps=[features]"), tmp_path, quiet
        )


@pytest.mark.parametrize(
    ("assignments", "name"),
    [
        (("bias.ratio=100",), "ir100"),
        (("bias.ratio=1000001",), "ir1000001"),
        (("bias.cut=[0]",), "ir20-cut"),
        (("bias.kind=long_tail", "bias.ratio=2.5"), "longtail2.5"),
        (("bias.kind=by_hand", "bias.ratio=1", "bias.fractions={3: 0.5}"), "byhand-"),
    ],
)
def test_a_bias_has_a_name_for_people(assignments, name):
    assert bias_name(digits(*assignments).bias).startswith(name)


@pytest.mark.parametrize(
    "spec", ["random", "pcc", "pfk_joint", "pfk_true:sum", "pcc@conv2", "pfk_predicted:product_of_sums@conv1+fc1"]
)
def test_a_methods_name_is_what_names_it(spec):
    assert method_name(C.merged([C.from_file(C.preset("mnist"), "mnist"), C.method_layer(spec)])) == spec


def test_every_bias_runs(tmp_path):
    for assignments in (
        ("bias.kind=long_tail", "bias.ratio=10"),
        ("bias.kind=by_hand", "bias.ratio=1", "bias.fractions={0: 0.2, 9: 0.1}"),
        ("bias.ratio=1",),
    ):
        (done,) = rounds(digits("acquisition.rounds=1", *assignments), tmp_path)
        assert 0 <= done.metrics["test/minority_accuracy"] <= 1


def test_a_torchvision_model_runs_with_taps_of_its_own(tmp_path):
    (done,) = rounds(
        digits("model.name=mobilenet_v3_small", "acquisition.taps=[features.3, features]", "data.image_size=32",
               "acquisition.rounds=1", "train.epochs=1", "acquisition.budget=10"),
        tmp_path,
    )  # fmt: skip
    assert len(done.selection.indices) == 10


def test_the_device_auto_is_the_cpu_where_there_is_nothing_else():
    expected = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    assert device_named("auto") == expected


def test_streams_of_one_seed_differ_by_name():
    assert stream(0, "train", 1).initial_seed() != stream(0, "train", 2).initial_seed()


@pytest.mark.slow
def test_real_mnist_from_the_command_line(mnist_root, tmp_path):
    """As a user runs it, in small: the paper's split, two iterations."""
    command = [
        sys.executable, "-m", "fkal.edge.cli", "run", "--preset", "mnist", "--data-root", str(mnist_root), "--json",
        "--method", "random,pfk_joint", "--set", "pretrain.task=none", "--set", "train.epochs=4",
        "--set", "acquisition.rounds=2",
    ]  # fmt: skip
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    random, pfk = json.loads(told.stdout)["experiments"]
    assert [r["labels_used"] for r in pfk["rounds"]] == [125, 250]
    (path,) = (tmp_path / "runs" / "splits").glob("*.json")
    counts = json.loads(path.read_text())["class_counts"]
    assert (sum(counts["pool"][:5]), sum(counts["pool"][5:])) == (25_596, 255)
    assert counts["validation"] == [1000] * 10
    assert sum(counts["test"]) == 10_000
    picked = {e["method"]: e["rounds"][0]["select/minority_fraction"] for e in (random, pfk)}
    assert picked["pfk_joint"] > picked["random"]
