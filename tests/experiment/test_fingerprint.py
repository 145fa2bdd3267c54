"""Every setting and every input against every key: what depends on it changes, what does not depend on it stays."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fkal.config.layers import Layer, from_assignments, from_file, merged, preset
from fkal.config.schema import Config, digest_of
from fkal.config.tuned import tuned_path
from fkal.data.datasets import Dataset
from fkal.data.images import TensorImages
from fkal.data.splits import draw_split
from fkal.engine.describing import DescriptorKey
from fkal.experiment.experiment import Experiment, prepare
from fkal.experiment.fingerprint import fingerprint, pretraining_key, split_file_name
from fkal.experiment.names import dataset_name, revision, settings_read
from fkal.experiment.versions import LABEL_REVISIONS, MATCHING_REVISIONS, METHOD_REVISIONS
from fkal.results.outcome import Outcome, groups_of
from fkal.tracking.tags import method_key
from fkal.tuning.objectives import objectives
from fkal.tuning.search_space import search_space
from fkal.tuning.study_spec import StudySpec

SPLIT, WEIGHTS, ROWS, LABELS, RUN = (
    "split",
    "weights",
    "descriptors",
    "descriptors under estimated labels",
    "fingerprint",
)
ALL = {SPLIT, WEIGHTS, ROWS, LABELS, RUN}
COMPUTED = ALL - {SPLIT}

# By setting: another value than the base has, and the keys that change with it. Weights are an input of descriptors.
CHANGES = {
    "data.name": ("mnist", ALL),
    "data.root": ("elsewhere", set()),
    "data.folder": ("pictures", {SPLIT}),
    "data.validation": ("others", ALL),
    "data.embeddings": ("others.npz", {SPLIT}),
    "data.image_size": (10, ALL),
    "data.validation_per_class": (29, ALL),
    "data.rare": (["5", "6"], {SPLIT, WEIGHTS, RUN}),
    "data.interpolation": ("bicubic", COMPUTED),
    "data.decoding": ("draft", COMPUTED),
    "data.mean": ([0.1], COMPUTED),
    "data.std": ([0.9], COMPUTED),
    "data.workers": (0, set()),
    "data.per_class": (100, ALL),
    "data.groups": (r"train/.*?(\d?\d)$", ALL),
    "bias.kind": ("long_tail", ALL),
    "bias.ratio": (10, ALL),
    "bias.cut": ([0, 1], ALL),
    "bias.fractions": ({0: 0.5}, ALL),
    "model.name": ("resnet10", COMPUTED),
    "model.weights": ("DEFAULT", {WEIGHTS, RUN}),
    "model.compile": (True, {WEIGHTS, RUN}),
    "model.accept_license": ("some-license", set()),
    "features.pca": (16, {RUN}),
    "features.tokens": ("cls", {ROWS, LABELS, RUN}),
    "features.precision": ("mixed", {ROWS, LABELS, RUN}),
    "pretrain.task": ("none", {WEIGHTS, RUN}),
    "pretrain.epochs": (1, {WEIGHTS, RUN}),
    "pretrain.batch_size": (24, {WEIGHTS, RUN}),
    "pretrain.lr": (0.04, {WEIGHTS, RUN}),
    "pretrain.momentum": (0.4, {WEIGHTS, RUN}),
    "pretrain.weight_decay": (0.1, {WEIGHTS, RUN}),
    "pretrain.decay": (0.5, {WEIGHTS, RUN}),
    "pretrain.decay_epochs": ([1], {WEIGHTS, RUN}),
    "pretrain.warmup_epochs": (1, {WEIGHTS, RUN}),
    "pretrain.precision": ("mixed", {WEIGHTS, RUN}),
    "train.checkpoint_minutes": (1.0, set()),
    "train.epochs": (1, {RUN}),
    "train.batch_size": (24, {RUN}),
    "train.lr": (0.04, {RUN}),
    "train.momentum": (0.4, {RUN}),
    "train.weight_decay": (0.1, {RUN}),
    "train.decay": (0.5, {RUN}),
    "train.decay_epochs": ([1], {RUN}),
    "train.warmup_epochs": (1, {RUN}),
    "train.precision": ("mixed", {RUN}),
    "train.start": ("theta_0", {RUN}),
    "train.layers": ("head", {RUN}),
    "train.on_validation": (True, {RUN}),
    "train.loss": ("balanced_softmax", {RUN}),
    "acquisition.name": ("pcc", {LABELS, RUN}),  # which estimates no labels
    "acquisition.budget": (19, {RUN}),
    "acquisition.rounds": (5, {RUN}),
    "acquisition.taps": (["conv2", "fc1"], {ROWS, LABELS, RUN}),
    "acquisition.pseudo_label": ("predicted", {LABELS, RUN}),
    "acquisition.combine": ("sum", {RUN}),
    "acquisition.matching": ("coverage", {RUN}),
    "acquisition.whitening": ("shrunk", {RUN}),
    "acquisition.batch_size": (400, {ROWS, LABELS, RUN}),
    "acquisition.samples": (15, set()),
    "acquisition.ensemble": (2, set()),
    "acquisition.view_degrees": (4.0, set()),
    "acquisition.view_noise": (0.02, set()),
    "acquisition.parts": (8, {RUN}),
    "vaal.iterations": (100, set()),
    "vaal.batch_size": (24, set()),
    "vaal.lr": (1e-3, set()),
    "vaal.decay": (0.8, set()),
    "vaal.decay_every": (0.05, set()),
    "vaal.latent": (31, set()),
    "vaal.width": (31, set()),
    "vaal.beta": (2.0, set()),
    "vaal.adversarial": (2.0, set()),
    "vaal.vae_steps": (1, set()),
    "vaal.discriminator_steps": (1, set()),
    "epoch": ("best_on_test", {RUN}),
    "holdout": (5, {LABELS, RUN}),
    "seed": (1, ALL),
    "device": ("cuda", COMPUTED),
    "threads": (2, COMPUTED),
    "batch_parts": (2, {WEIGHTS, RUN}),
}
WITH = {
    "bias.kind": {"bias.ratio": 20},
    "bias.fractions": {"bias.kind": "by_hand", "bias.ratio": 1},
}
"""What has to be set beside it, in the base as well where it can be."""

IN_PLACE_OF_DIGITS = {
    "data.folder": {"data.name": "folder", "data.folder": "photographs"},
    "data.validation": {"data.name": "folder", "data.folder": "photographs"},
    "data.embeddings": {"data.name": "embeddings", "data.embeddings": "some.npz"},
}
"""Other data that the base has to have for a setting."""

READ_BY_OTHERS = {
    ("pfk", "trace", "acquisition.samples", 15): {LABELS, RUN},
    ("pfk", "trace", "acquisition.view_degrees", 4.0): {LABELS, RUN},
    ("pfk", "trace", "acquisition.view_noise", 0.02): {LABELS, RUN},
    ("pfk", "joint_zg", "acquisition.combine", "sum"): {LABELS, RUN},
    ("varr", "joint", "acquisition.samples", 15): {LABELS, RUN},
    ("varr", "joint", "acquisition.ensemble", 2): {LABELS, RUN},
    ("varr", "joint", "acquisition.combine", "sum"): set(),
    ("varr", "joint", "acquisition.taps", ("fc1",)): {ROWS, LABELS},
    ("epig", "joint", "acquisition.samples", 15): {LABELS, RUN},
    ("random", "joint", "acquisition.batch_size", 400): {ROWS, LABELS, RUN},
    ("all", "joint", "acquisition.budget", 19): set(),
    ("all", "joint", "acquisition.rounds", 5): set(),
    **{("vaal", "joint", key, value): {RUN} for key, (value, _) in CHANGES.items() if key.startswith("vaal.")},
}
"""Settings that the base does not read or reads otherwise, by the method and the pseudo-label that do.

Methods without taps never ask for descriptors: those keys may change with anything.
"""

IMAGES, THETA_0 = "one pixel", "the weights"
INPUTS = {IMAGES: ALL, THETA_0: {ROWS, LABELS}}


def quiet(message: str) -> None:
    raise AssertionError(f"said {message!r}")


def configured(**settings) -> Config:
    values = [f"{key}={value}" for key, value in {"device": "cpu", **settings}.items()]
    return merged([from_file(preset("digits"), "digits"), from_assignments(values)])


def changed(config: Config, settings: dict) -> Config:
    tree = {section: dict(value) if isinstance(value, dict) else value for section, value in config.tree.items()}
    for key, value in settings.items():
        section, _, name = key.partition(".")
        if name:
            tree[section][name] = value
        else:
            tree[section] = value
    return merged([Layer("test", tree)])


def keys(experiment: Experiment, theta_0: dict | None = None) -> dict[str, str]:
    """What the files of this experiment are called, and what it is found by."""
    config, split, device = experiment.config, experiment.split, experiment.device
    chosen = config.acquisition
    rows = DescriptorKey(split.pool, chosen.taps, chosen.batch_size, "z and g", "true", grid=1, shard=0)
    files = experiment.descriptor_files(theta_0 or {"w": torch.zeros(2)}, makes=True)
    return {
        SPLIT: experiment.split_path.name,
        WEIGHTS: pretraining_key(config, split, device),
        ROWS: str(files.path(rows)),
        LABELS: str(files.path(rows._replace(labels="estimated"))),
        RUN: fingerprint(config, split, device),
    }


def differing(once: dict[str, str], again: dict[str, str]) -> set[str]:
    return {name for name in once if once[name] != again[name]}


@pytest.fixture
def base(tmp_path) -> Experiment:
    return prepare(configured(), tmp_path, quiet)


def after(base: Experiment, settings: dict, out) -> Experiment:
    """The experiment under other settings, on the same images where the setting names others than can be had here."""
    config = changed(base.config, settings)
    if config.train.on_validation:
        return replace(base, config=config)
    if config.device == "cuda":
        return replace(base, config=config, device=torch.device("cuda"))
    if config.model != base.config.model or config.features != base.config.features:  # of pretrained models alone
        return replace(base, config=config)
    if config.data.name != "digits":
        own = None if config.data.validation is None else torch.arange(40)
        dataset = replace(base.dataset, name=config.data.name, validation=own)
        path = base.split_path.with_name(split_file_name(config, dataset.digest))
        split = draw_split(dataset, config.data, config.bias, config.seed)
        return replace(base, config=config, dataset=dataset, split=split, split_path=path)
    return prepare(config, out, quiet)


def test_the_table_has_every_setting():
    assert set(CHANGES) == set(Config().flat)


@pytest.mark.parametrize("setting", list(CHANGES))
def test_a_setting_changes_the_keys_of_what_depends_on_it_and_no_others(setting, base, tmp_path):
    value, expected = CHANGES[setting]
    beside = WITH.get(setting, {})
    if setting in IN_PLACE_OF_DIGITS:
        base, beside = after(base, IN_PLACE_OF_DIGITS[setting], tmp_path), {}
    assert base.config.flat[setting] != value
    assert differing(keys(base), keys(after(base, {**beside, setting: value}, tmp_path))) == expected


@pytest.mark.parametrize("case", list(READ_BY_OTHERS), ids=lambda case: "-".join(map(str, case)))
def test_a_setting_that_other_methods_read_changes_theirs(case, tmp_path):
    name, pseudo_label, setting, value = case
    chosen = {"acquisition.name": name, "acquisition.pseudo_label": pseudo_label}
    base = prepare(configured(**chosen), tmp_path, quiet)
    assert differing(keys(base), keys(after(base, {setting: value}, tmp_path))) == READ_BY_OTHERS[case]


@pytest.mark.parametrize("name", list(INPUTS))
def test_an_input_changes_the_keys_of_what_depends_on_it_and_no_others(name, base):
    weights = torch.ones(2) if name == THETA_0 else torch.zeros(2)
    again = base if name == THETA_0 else on(base, with_another_pixel(base.dataset))
    assert differing(keys(base), keys(again, {"w": weights})) == INPUTS[name]


def on(base: Experiment, dataset: Dataset) -> Experiment:
    """The experiment on other images."""
    split = draw_split(dataset, base.config.data, base.config.bias, base.config.seed)
    path = base.split_path.with_name(split_file_name(base.config, dataset.digest))
    return replace(base, dataset=dataset, split=split, split_path=path)


def with_another_pixel(dataset: Dataset) -> Dataset:
    train = dataset.train
    pixels = train.pixels(torch.arange(len(train))).clone()
    pixels[0, 0, 0, 0] += 1
    other = TensorImages(pixels, train.labels, train.classes, mean=(0.305,), std=(0.376,))
    return replace(dataset, train=other)


def test_another_version_of_the_algorithm_changes_all_that_is_computed(base, monkeypatch):
    before = keys(base)
    monkeypatch.setattr("fkal.experiment.fingerprint.ALGO_VERSION", 99)
    assert differing(before, keys(base)) == COMPUTED


@pytest.mark.parametrize(("pseudo_label", "expected"), [("joint_shift", {LABELS, RUN}), ("joint", set())])
def test_another_revision_of_a_label_changes_what_is_made_under_it(pseudo_label, expected, tmp_path, monkeypatch):
    base = prepare(configured(**{"acquisition.pseudo_label": pseudo_label}), tmp_path, quiet)
    before = keys(base)
    monkeypatch.setitem(LABEL_REVISIONS, "joint_shift", 99)
    assert differing(before, keys(base)) == expected


@pytest.mark.parametrize(("name", "expected"), [("bait", {RUN}), ("coreset", set())])
def test_another_revision_of_a_method_changes_its_own_results(name, expected, tmp_path, monkeypatch):
    base = prepare(configured(**{"acquisition.name": name}), tmp_path, quiet)
    before = keys(base)
    monkeypatch.setitem(METHOD_REVISIONS, "bait", 99)
    assert differing(before, keys(base)) == expected


@pytest.mark.parametrize(
    ("name", "matching", "expected"),
    [("pfk", "coverage", {RUN}), ("pfk", "k_center", set()), ("pcc", "coverage", set())],
)
def test_another_revision_of_a_matching_changes_what_is_matched_by_it(name, matching, expected, tmp_path, monkeypatch):
    changes = {"acquisition.name": name, "acquisition.matching": matching}
    base = prepare(configured(**changes), tmp_path, quiet)
    before = keys(base)
    monkeypatch.setitem(MATCHING_REVISIONS, "coverage", 99)
    assert differing(before, keys(base)) == expected


@pytest.mark.parametrize(
    ("layers", "on_validation", "revised"),
    [("frozen", True, True), ("frozen", False, False), ("all", True, False)],
)
def test_another_revision_of_cross_fitting_changes_heads_that_learn_from_validation(
    layers, on_validation, revised, monkeypatch
):
    config = configured(**{"train.layers": layers, "train.on_validation": on_validation})
    before = revision(config)
    monkeypatch.setattr("fkal.experiment.names.CROSS_FIT_REVISION", 99)
    assert (revision(config) != before) == revised


@pytest.mark.parametrize("section", ["features", "pretrain", "train"])
def test_mixed_precision_is_what_the_device_has_of_it(section, base, tmp_path):
    mixed, other = (after(base, {f"{section}.precision": name}, tmp_path) for name in ("mixed", "bfloat16"))
    assert keys(mixed) == keys(other) != keys(base)


@pytest.mark.parametrize(("members", "kinds"), [(1, 1), (2, 2)])
def test_an_ensemble_that_a_gpu_trains_together_is_another_than_one_by_one(members, kinds, tmp_path, monkeypatch):
    """What else tells a GPU's experiment from a CPU's is made equal."""
    config = configured(**{"acquisition.name": "varr", "acquisition.ensemble": members, "threads": 1})
    base = prepare(config, tmp_path, quiet)
    cpu = {**fingerprint_tree(config, base, torch.device("cpu"), monkeypatch), "device": None}
    gpu = {**fingerprint_tree(config, base, torch.device("cuda"), monkeypatch), "device": None}
    assert len({digest_of(cpu), digest_of(gpu)}) == kinds


def fingerprint_tree(config: Config, base: Experiment, device: torch.device, monkeypatch) -> dict:
    """What the fingerprint is the digest of."""
    trees = []
    monkeypatch.setattr("fkal.experiment.fingerprint.digest_of", lambda tree: trees.append(tree) or "")
    fingerprint(config, base.split, device)
    return trees[-1]


def test_a_member_of_an_ensemble_has_weights_of_its_own(base):
    names = {pretraining_key(base.config, base.split, base.device, member) for member in range(3)}
    assert len(names) == 3


CELL, GROUP, PLACE, METHOD, STUDY, TUNED = (
    "published cell",
    "report's group",
    "MLflow experiment",
    "MLflow method run",
    "study",
    "tuned file",
)
"""What holds several experiments, or is found by a name."""

NAMED = {"data.name", "data.folder", "data.embeddings"}
OF_A_RUN = {setting for setting, (_, changed_keys) in CHANGES.items() if RUN in changed_keys}
SHARED: dict[str, set[str]] = {
    CELL: OF_A_RUN - {"device"}
    | {"data.root", "data.folder", "data.workers", "data.embeddings"},  # the plan of auto names no device
    GROUP: NAMED
    | {"data.image_size", "data.validation_per_class", "data.per_class", "data.groups"}
    | {"train.loss", "train.on_validation", "acquisition.budget", "epoch", "holdout"}
    | {setting for setting in CHANGES if setting.startswith("bias.")},
    PLACE: NAMED,
    METHOD: OF_A_RUN - {"seed", "device"} | {"data.folder", "data.embeddings"},
    STUDY: set(CHANGES) - {"data.root", "data.workers", "seed", "model.accept_license", "train.checkpoint_minutes"},
    TUNED: NAMED,
}
"""By what is shared, the settings whose change makes another."""


def shared(experiment: Experiment, source: str = "") -> dict[str, str]:
    """What the experiment is put together with others by."""
    config, split = experiment.config, experiment.split
    plan = StudySpec(
        config, config, search_space(configured(), [], None), objectives("aubc"), (0,), Path("runs"), source
    )
    first = SimpleNamespace(labels_used=experiment.budget, measured="holdout" if config.holdout else "test")
    outcome = Outcome(config, "", split.digest, (first,), "", "", data_digest=split.data_digest)
    return {
        CELL: digest_of([settings_read(config), revision(config), config.seed, split.digest]),
        GROUP: str(groups_of([outcome])),
        PLACE: experiment.tags["dataset"],
        METHOD: method_key(experiment),
        STUDY: plan.name,
        TUNED: str(tuned_path(Path("tuned"), dataset_name(config.data))),
    }


@pytest.mark.parametrize("setting", list(CHANGES))
def test_a_setting_changes_what_the_experiment_shares_with_others(setting, base, tmp_path):
    beside = WITH.get(setting, {})
    if setting in IN_PLACE_OF_DIGITS:
        base, beside = after(base, IN_PLACE_OF_DIGITS[setting], tmp_path), {}
    again = after(base, {**beside, setting: CHANGES[setting][0]}, tmp_path)
    expected = {name for name, settings in SHARED.items() if setting in settings}
    assert differing(shared(base), shared(again)) == expected


def test_other_images_change_all_that_puts_experiments_together(base):
    again = on(base, with_another_pixel(base.dataset))
    assert differing(shared(base, "a" * 32), shared(again, "b" * 32)) == {CELL, GROUP, METHOD, STUDY}


def test_another_version_of_the_algorithm_is_another_method_run(base, monkeypatch):
    before = method_key(base)
    monkeypatch.setattr("fkal.experiment.names.ALGO_VERSION", 99)
    assert method_key(base) != before
