import json
import subprocess
import sys

import pytest
import torch
from PIL import Image

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.schema import Config, ConfigError
from fkal.core.randomness import stream
from fkal.engine.metering import Meter
from fkal.engine.pretraining import pretrain
from fkal.engine.progress import Progress
from fkal.engine.rounds import Round
from fkal.experiment.checks import doubts, refuse_infeasible
from fkal.experiment.device import device_named
from fkal.experiment.experiment import prepare
from fkal.experiment.names import bias_name, method_name, settings_of_first_descriptors, settings_read
from fkal.experiment.versions import LABEL_REVISIONS
from fkal.models.ensemble import members_of
from fkal.models.registry import head_name

QUICK = ("pretrain.epochs=1", "train.epochs=2", "acquisition.rounds=2")


def digits(*assignments: str) -> Config:
    return merged([from_file(preset("digits"), "preset digits"), from_assignments([*QUICK, *assignments])])


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


OTHERS_ALONE = {
    "taps": ("acquisition.taps=[conv2]",),
    "pseudo_label": ("acquisition.pseudo_label=true", "acquisition.pseudo_label=predicted"),
    "combine": ("acquisition.combine=sum",),
    "matching": ("acquisition.matching=coverage", "acquisition.whitening=shrunk"),
    "samples": ("acquisition.samples=9",),
    "views": ("acquisition.view_degrees=1", "acquisition.view_noise=0.5"),
    "ensemble": ("acquisition.ensemble=3",),
    "vaal": ("vaal.iterations=7", "vaal.width=4"),
    "extent": ("acquisition.budget=5", "acquisition.rounds=1"),
}
"""Settings that not every method reads, by what reads them."""

READ_BY = {
    "random": {"extent"},
    "pcc": {"extent", "taps"},
    "coreset": {"extent", "taps"},
    "pfk": {"extent", "taps", "pseudo_label", "combine", "matching"},
    "pfk_joint_zg": {"extent", "taps", "combine", "pseudo_label", "matching"},
    "pfk_trace": {"extent", "taps", "combine", "pseudo_label", "matching", "samples", "views"},
    "pfk_mutual_information_diagonal": {"extent", "taps", "combine", "pseudo_label", "matching", "samples", "views"},
    "pfk:ecov": {"extent", "taps", "pseudo_label", "matching"},
    "pfk_joint_shift_grid:noisy_or": {"extent", "taps", "pseudo_label", "matching"},
    "pfk_joint_shift_grid:wcov": {"extent", "taps", "pseudo_label", "matching"},
    "pfk_joint_shift_grid:wcov_zg": {"extent", "taps", "combine", "pseudo_label", "matching"},
    "pfk_joint_zg:noisy_or": {"extent", "taps", "combine", "pseudo_label", "matching"},
    "varr": {"extent", "samples", "ensemble"},
    "mean_std": {"extent", "samples", "ensemble"},
    "vaal": {"extent", "vaal"},
    "all": set(),
}


@pytest.mark.parametrize("method", list(READ_BY))
def test_the_settings_that_a_method_reads_and_no_others_make_a_new_experiment(method, tmp_path):
    def of(*assignments: str) -> str:
        layers = [from_file(preset("digits"), "digits"), method_layer(method), from_assignments(assignments)]
        return prepare(merged(layers), tmp_path, quiet).fingerprint

    plain = of()
    for reader, settings in OTHERS_ALONE.items():
        for setting in settings:
            assert (of(setting) != plain) is (reader in READ_BY[method]), setting


@pytest.mark.parametrize(
    "setting",
    [
        "acquisition.matching=coverage",
        "acquisition.matching=ecov",
        "acquisition.matching=noisy_or",
        "acquisition.matching=wcov",
        "acquisition.matching=wcov_zg",
        "acquisition.whitening=shrunk",
    ],
)
def test_matching_and_whitening_reach_the_choice(setting, tmp_path):
    plain, other = (rounds(digits("acquisition.rounds=1", *extra), tmp_path) for extra in ([], [setting]))
    assert plain[0].metrics["pseudo/accuracy"] == other[0].metrics["pseudo/accuracy"]
    assert plain[0].selection.indices.tolist() != other[0].selection.indices.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("matching", ["ecov", "noisy_or", "wcov", "tail_first"])
@pytest.mark.parametrize("label", ["joint_shift_grid", "predicted"])
def test_matchings_by_class_probabilities_run_with_a_trained_network(matching, label, tmp_path):
    done = rounds(digits(f"acquisition.matching={matching}", f"acquisition.pseudo_label={label}"), tmp_path)
    assert [each.b for each in done] == [1, 2]
    again = rounds(digits(f"acquisition.matching={matching}", f"acquisition.pseudo_label={label}"), tmp_path)
    for first, second in zip(done, again, strict=True):
        assert first.selection.indices.tolist() == second.selection.indices.tolist()
        assert not any(first.backward_images.get(phase) for phase in ("descriptors", "select"))
        assert "pseudo/accuracy" in first.metrics
    validation = prepare(digits(), tmp_path, quiet).split.validation
    matches = done[1].selection.matches
    assert (matches is None) is (matching == "tail_first")
    assert matches is None or set(matches.tolist()) <= set(validation.tolist())


@pytest.mark.slow
def test_weighted_coverage_by_the_kernel_runs_with_a_trained_network(tmp_path):
    settings = ("acquisition.matching=wcov_zg", "acquisition.pseudo_label=joint_shift_grid")
    done, again = rounds(digits(*settings), tmp_path), rounds(digits(*settings), tmp_path)
    for first, second in zip(done, again, strict=True):
        assert first.selection.indices.tolist() == second.selection.indices.tolist()
    other = rounds(digits("acquisition.matching=coverage", *settings[1:]), tmp_path)
    assert done[1].selection.indices.tolist() != other[1].selection.indices.tolist()
    validation = prepare(digits(), tmp_path, quiet).split.validation
    assert set(done[1].selection.matches.tolist()) <= set(validation.tolist())


def test_an_estimate_of_the_pools_frequencies_is_told_beside_the_true_ones(tmp_path):
    (done,) = rounds(digits("acquisition.rounds=1", "acquisition.pseudo_label=joint_shift"), tmp_path)
    estimated, true = ([done.metrics[f"prior/{kind}_{d}"] for d in range(10)] for kind in ("estimated", "true"))
    assert sum(estimated) == pytest.approx(1)
    split = prepare(digits(), tmp_path, quiet)
    counts = split.dataset.train.labels[split.split.pool].bincount(minlength=10).double()
    assert true == pytest.approx((counts / counts.sum()).tolist())
    assert done.metrics["prior/error"] == pytest.approx(
        sum(abs(e - t) for e, t in zip(estimated, true, strict=True)) / 2
    )


def test_class_frequencies_are_those_of_the_pool_before_any_image_was_labeled(tmp_path):
    """Once most of the pool is labeled and its labels are counted, the estimate can hardly be off."""
    config = digits("acquisition.pseudo_label=joint_shift", "acquisition.budget=240")
    first, second = rounds(config, tmp_path)
    true = [[done.metrics[f"prior/true_{d}"] for d in range(10)] for done in (first, second)]
    assert true[0] == true[1]
    prepared = prepare(config, tmp_path, quiet)
    n = len(prepared.split.pool)
    assert second.metrics["prior/error"] < first.metrics["prior/error"]
    counts = prepared.dataset.train.labels[first.selection.indices].bincount(minlength=10)
    for d in range(10):  # no class can be rarer than what was found of it
        assert second.metrics[f"prior/estimated_{d}"] >= int(counts[d]) / n - 1e-6


@pytest.mark.parametrize("method", ["pfk_joint_shift", "pfk_joint", "random"])
def test_labels_that_are_estimated_otherwise_than_before_make_a_new_experiment(method, tmp_path, monkeypatch):
    def now() -> str:
        layers = [from_file(preset("digits"), "digits"), method_layer(method)]
        return prepare(merged(layers), tmp_path, quiet).fingerprint

    before = now()
    monkeypatch.setitem(LABEL_REVISIONS, "joint_shift", 99)
    assert (now() != before) is (method == "pfk_joint_shift")


def test_matching_and_whitening_left_as_they_were_change_no_digest(tmp_path):
    """They came later; what had been computed before them stays known."""
    config = digits()
    tree = {k: v for k, v in config.tree["acquisition"].items() if k not in ("matching", "whitening")}
    assert settings_read(config)["acquisition"].items() <= tree.items()
    assert settings_of_first_descriptors(config) == settings_of_first_descriptors(
        digits("acquisition.matching=coverage")
    )


def test_layers_left_at_all_change_no_digest_and_the_head_alone_does(tmp_path):
    """The setting came later; what had been computed before it stays known."""
    assert fingerprint(tmp_path, "train.layers=all") == fingerprint(tmp_path)
    assert fingerprint(tmp_path, "train.layers=head") != fingerprint(tmp_path)


def test_a_holdout_changes_the_experiment_and_neither_its_split_nor_its_pretraining(tmp_path):
    plain, held = (prepare(digits(*some), tmp_path, quiet) for some in ([], ["holdout=4"]))
    assert prepare(digits("holdout=0"), tmp_path, quiet).fingerprint == plain.fingerprint != held.fingerprint
    assert (held.split.digest, held.weights_paths) == (plain.split.digest, plain.weights_paths)
    assert (plain.problem.measured, held.problem.measured) == ("test", "holdout")
    assert held.problem.test_images is held.dataset.train
    assert held.name.endswith("-holdout4-s0") and plain.name.replace("-s0", "-holdout4-s0") == held.name


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


def taken(work) -> tuple[dict, int]:
    """What the generator returns, and how much progress it told."""
    steps = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return dict(end.value), steps
        steps += 1


@pytest.mark.parametrize("task", ["rotation", "none"])
def test_members_have_weights_of_their_own_and_the_first_those_of_the_single_model(task, tmp_path):
    quick = (f"pretrain.task={task}",)
    alone = prepare(digits(*quick, "acquisition.name=random"), tmp_path, quiet)
    several = prepare(digits(*quick, "acquisition.name=varr", "acquisition.ensemble=3"), tmp_path, quiet)
    assert len(set(several.weights_paths)) == 3
    assert several.weights_paths[:1] == alone.weights_paths
    (single, _), (weights, steps) = taken(alone.theta_0()), taken(several.theta_0())
    assert steps == (2 if task == "rotation" else 0)  # the first member's were there
    assert [path.exists() for path in several.weights_paths] == [task == "rotation"] * 3
    for name, value in single.items():
        assert torch.equal(weights[f"members.0.{name}"], value)
        assert not torch.equal(weights[f"members.1.{name}"], weights[f"members.2.{name}"])
    again, steps = taken(several.theta_0())
    assert steps == 0
    assert all(torch.equal(value, again[name]) for name, value in weights.items())


def test_every_member_is_pretrained_in_an_order_of_its_own(tmp_path):
    experiment = prepare(digits("acquisition.name=varr", "acquisition.ensemble=2"), tmp_path, quiet)
    firsts = {
        name.removeprefix("members.1."): value.clone()
        for name, value in experiment.first_weights.items()
        if name.startswith("members.1.")
    }
    weights, _ = taken(experiment.theta_0())
    (_, member) = members_of(experiment.model)
    member.load_state_dict(firsts)
    generator = stream(0, "pretrain", "member", 1)
    work = pretrain(
        member, experiment.dataset.train, experiment.split.pool, config=experiment.config.pretrain,
        generator=generator, meter=Meter(torch.device("cpu")),
    )  # fmt: skip
    body, _ = taken(work)
    assert body
    assert all(torch.equal(weights[f"members.1.{name}"], value) for name, value in body.items())


@pytest.mark.parametrize(
    ("spec", "setting", "metric"),
    [
        ("pfk_joint_zg", "acquisition.combine=sum", "pseudo/accuracy"),
        ("pfk_mutual_information_diagonal:k4", "acquisition.view_noise=20", "pseudo/accuracy"),
        ("pfk_mutual_information_diagonal:k4", "acquisition.view_degrees=180", "pseudo/accuracy"),
        ("pfk_joint", "acquisition.pseudo_label=true", "pseudo/accuracy"),
        ("pfk_joint", "acquisition.pseudo_label=joint_shift", "pseudo/accuracy"),
        ("pfk_joint", "acquisition.taps=[conv1]", "pseudo/accuracy"),
    ],
)
def test_settings_reach_the_gathering(spec, setting, metric, tmp_path):
    base = [from_file(preset("digits"), "digits"), from_assignments([*QUICK, "acquisition.rounds=1"])]
    plain, other = (
        rounds(merged([*base, method_layer(spec), from_assignments(extra)]), tmp_path) for extra in ([], [setting])
    )
    assert plain[0].metrics[metric] != other[0].metrics[metric]


def test_passes_views_and_members_are_as_many_as_set(tmp_path):
    base = [from_file(preset("digits"), "digits"), from_assignments([*QUICK, "train.epochs=1"])]
    for spec, per_image in (("pfk_trace:k2", 1 + 2), ("pfk_trace:k3", 1 + 3), ("varr:k3", 3), ("varr:e2:k3", 6)):
        config = merged([*base, method_layer(spec)])
        split, second = prepare(config, tmp_path, quiet).split, rounds(config, tmp_path)[1]
        known = len(split.validation) if spec.startswith("pfk") else 0
        unlabeled = len(split.pool) - config.acquisition.budget
        assert second.forward_images["descriptors"] == per_image * (known + unlabeled)


def test_a_method_that_asks_one_model_has_one_whatever_the_ensemble(tmp_path):
    experiment = prepare(digits("acquisition.name=coreset", "acquisition.ensemble=3"), tmp_path, quiet)
    assert len(experiment.weights_paths) == len(members_of(experiment.model)) == 1


def test_the_whole_pool_is_labeled_in_one_iteration(tmp_path):
    config = digits("acquisition.name=all", "train.epochs=1", "acquisition.rounds=5", "acquisition.budget=100000")
    experiment = prepare(config, tmp_path, quiet)
    pool = experiment.split.pool
    assert (experiment.rounds, experiment.budget) == (1, len(pool))
    (done,) = rounds(config, tmp_path)
    assert done.labels_used == len(pool)
    assert sorted(done.selection.indices.tolist()) == sorted(pool.tolist())


@pytest.mark.parametrize("label", ["trace", "joint_zg", "joint_shift", "joint_shift_grid"])
def test_labels_that_are_estimated_in_float64_are_refused_where_there_is_none(label, tmp_path):
    here = prepare(digits(f"acquisition.pseudo_label={label}"), tmp_path, quiet)
    with pytest.raises(ConfigError, match=f"pseudo_label = '{label}': it needs float64.*set device=cpu"):
        refuse_infeasible(here.config, here.dataset, here.split, here.model, torch.device("mps"))


@pytest.mark.parametrize(
    "spec",
    ["varr:e2:k2", "entropy:k2", "bald:k2", "mean_std:k2", "coreset", "vaal", "pfk_trace:k2",
     "pfk_mutual_information:k2@conv1", "pfk_mutual_information_diagonal:k2", "pfk_joint_zg:sum", "random:head_only",
     "pfk_joint:random_theta_0:head_only", "softmax_entropy", "base", "badge", "typiclust", "probcover", "uherding",
     "flqmi", "direct", "galaxy", "epig:k2", "bait", "pfk_joint_shift_grid:coverage"],
)  # fmt: skip
def test_every_method_runs_and_two_runs_of_it_are_equal_to_the_bit(spec, tmp_path):
    tiny = ("vaal.iterations=2", "vaal.width=2", "vaal.batch_size=5", "train.epochs=1", "data.validation_per_class=3")
    layers = [from_file(preset("digits"), "preset digits"), from_assignments([*QUICK, *tiny])]
    config = merged([*layers, method_layer(spec)])
    once, again = rounds(config, tmp_path / "a"), rounds(config, tmp_path / "b")
    assert len(once) == 2
    for first, second in zip(once, again, strict=True):
        assert first.metrics == second.metrics
        assert first.train_loss == second.train_loss
        assert torch.equal(first.selection.indices, second.selection.indices)
        assert all(torch.equal(value, second.weights[name]) for name, value in first.weights.items())


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("acquisition.name=varr", "acquisition.samples=1"), "one pass agrees with itself; give at least 2"),
        (("acquisition.pseudo_label=mutual_information", "acquisition.samples=1"), "one view has no covariance"),
        (
            ("acquisition.pseudo_label=mutual_information_diagonal", "acquisition.samples=1"),
            "one view has no covariance",
        ),
        (
            ("acquisition.pseudo_label=mutual_information", "model.name=resnet10", "acquisition.taps=[layer4]",
             "data.image_size=32", "acquisition.samples=128"),
            "lower it, tap narrower layers or take mutual_information_diagonal",
        ),
        (("acquisition.name=epig", "acquisition.samples=1"), "one network has nothing to be compared with"),
        (
            ("acquisition.name=badge", "model.name=squeezenet1_1", "data.image_size=64", "pretrain.task=none"),
            r"model\.name = 'squeezenet1_1': SqueezeNet has no linear layer to serve as its head",
        ),
    ],
)  # fmt: skip
def test_settings_under_which_a_method_could_say_nothing_are_refused(assignments, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepare(digits(*assignments), tmp_path, quiet)


def test_few_views_of_a_wide_layer_hold_fewer_moments(tmp_path):
    wide = ("model.name=resnet10", "acquisition.taps=[layer4]", "data.image_size=32", "acquisition.samples=16")
    assert prepare(digits("acquisition.pseudo_label=mutual_information", *wide), tmp_path, quiet)


def test_an_ensemble_may_take_one_pass_of_each_member(tmp_path):
    config = digits("acquisition.name=bald", "acquisition.samples=1", "acquisition.ensemble=2", "train.epochs=1")
    assert len(rounds(config, tmp_path)) == 2


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
        (("bias.kind=none", "bias.ratio=1"), "natural"),
        (("bias.kind=by_hand", "bias.ratio=1", "bias.fractions={3: 0.5}"), "byhand-"),
    ],
)
def test_a_bias_has_a_name_for_people(assignments, name):
    assert bias_name(digits(*assignments).bias).startswith(name)


@pytest.mark.parametrize(
    "spec",
    ["random", "all", "coreset", "coreset@conv2", "vaal", "varr", "entropy:k16", "bald:e4", "mean_std:e2:k3",
     "varr:e4:k32", "varr:e4:k32:random_theta_0:head_only", "random:head_only", "random:random_theta_0", "pcc",
     "pcc@conv2", "pfk_joint", "pfk_joint_zg", "pfk_true:sum", "pfk_predicted:product_of_sums@conv1+fc1",
     "pfk_trace:k16@conv2", "pfk_mutual_information", "pfk_mutual_information_diagonal",
     "pfk_mutual_information_diagonal:sum:k8", "pfk_joint_shift:coverage:whiten", "pfk_joint:whiten@conv2",
     "pfk_joint_shift_grid:coverage", "pfk_joint:sum:random_theta_0@conv1+fc1", "all:random_theta_0"],
)  # fmt: skip
def test_a_methods_name_is_what_names_it(spec):
    assert method_name(merged([from_file(preset("mnist"), "mnist"), method_layer(spec)])) == spec


@pytest.mark.parametrize(
    ("spec", "assignments", "name"),
    [
        ("random", ("acquisition.samples=3", "acquisition.ensemble=2", "acquisition.taps=[conv2]"), "random"),
        ("varr", ("acquisition.combine=sum", "acquisition.pseudo_label=trace", "acquisition.taps=[fc1]"), "varr"),
        ("pfk_joint", ("acquisition.samples=3", "acquisition.ensemble=2", "vaal.width=2"), "pfk_joint"),
        ("pfk_trace", ("acquisition.ensemble=2",), "pfk_trace"),
        ("pcc", ("acquisition.combine=sum",), "pcc"),
    ],
)
def test_a_name_is_silent_about_what_the_method_does_not_read(spec, assignments, name):
    layers = [from_file(preset("mnist"), "mnist"), method_layer(spec), from_assignments(assignments)]
    assert method_name(merged(layers)) == name


def test_every_bias_runs(tmp_path):
    for assignments in (
        ("bias.kind=long_tail", "bias.ratio=10"),
        ("bias.kind=by_hand", "bias.ratio=1", "bias.fractions={0: 0.2, 9: 0.1}"),
        ("bias.ratio=1",),
    ):
        (done,) = rounds(digits("acquisition.rounds=1", *assignments), tmp_path)
        assert 0 <= done.metrics["test/minority_accuracy"] <= 1


@pytest.mark.slow
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
    """As a user runs it, in small: the paper's split, two rounds."""
    command = [
        sys.executable, "-m", "fkal.cli.main", "run", "--preset", "mnist", "--data-root", str(mnist_root), "--json",
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
    assert (random["method"], pfk["method"]) == ("random:random_theta_0", "pfk_joint:random_theta_0")
    picked = [e["rounds"][0]["select/minority_fraction"] for e in (random, pfk)]
    assert picked[1] > picked[0]


def test_images_that_change_between_two_experiments_of_a_process_are_read_again(tmp_path):
    for part in ("train", "test"):
        for label, shade in (("dark", 30), ("light", 220)):
            (tmp_path / "mine" / part / label).mkdir(parents=True)
            for i in range(5):
                Image.new("L", (8, 8), shade + i).save(tmp_path / "mine" / part / label / f"{i}.png")
    own = (f"data.folder={tmp_path / 'mine'}", "data.validation_per_class=2", "acquisition.budget=2", "bias.kind=none")
    config = merged([from_file(preset("folder"), "preset folder"), from_assignments([*QUICK, *own])])
    before = prepare(config, tmp_path / "out", print)
    assert prepare(config, tmp_path / "out", print).dataset.train is before.dataset.train
    Image.new("L", (8, 8), 99).save(tmp_path / "mine/train/dark/0.png")
    after = prepare(config, tmp_path / "out", print)
    assert after.dataset.digest != before.dataset.digest and after.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("method", "on_validation", "is_doubted"),
    [
        ("weighted_coverage", True, True),
        ("pfk_joint", True, True),
        ("pfk_true", True, False),
        ("base", True, False),
        ("random", True, False),
        ("weighted_coverage", False, False),
    ],
)
def test_steering_by_images_that_are_trained_on_is_doubted(method, on_validation, is_doubted):
    trained = from_assignments([f"train.on_validation={str(on_validation).lower()}"])
    config = merged([from_file(preset("digits"), "digits"), trained, method_layer(method)])
    assert any("random,base" in doubt for doubt in doubts(config)) == is_doubted
