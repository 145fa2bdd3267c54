import json
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from fkal.config.layers import (
    Layer,
    from_assignments,
    from_environment,
    load,
    merged,
    preset,
    presets,
    unknown_variables,
)
from fkal.config.method_spec import method_layer
from fkal.config.params_file import params_file
from fkal.config.schema import IN_NO_DIGEST, LATER_DEFAULTS, Config, ConfigError, about_data


def layered(*assignments: str) -> Config:
    return merged([from_assignments(assignments)])


@pytest.mark.parametrize("name", list(presets()))
def test_a_preset_states_every_value_but_those_that_came_later_and_are_off_unless_set(name):
    stated = yaml.safe_load(preset(name).read_text())
    assert set(Config.model_fields) - {"features", "batch_parts"} <= set(stated) <= set(Config.model_fields)
    for section, values in stated.items():
        if isinstance(values, dict):
            known = {field.name for field in fields(Config.model_fields[section].annotation)}
            unset = {*LATER_DEFAULTS.get(section, {}), IN_NO_DIGEST.get(section)}
            assert known - unset <= set(values) <= known
    assert load(preset(name), environment={}).data.name == name.split("-")[0]


def test_the_mnist_preset_has_the_papers_settings():
    config = load(preset("mnist"), environment={})
    assert (config.acquisition.budget, config.acquisition.rounds, config.data.validation_per_class) == (125, 10, 1000)
    assert (config.train.epochs, config.train.batch_size, config.train.lr) == (50, 25, 0.05)
    assert (config.train.momentum, config.train.decay_epochs) == (0.5, (15, 30, 45))
    assert (config.pretrain.epochs, config.pretrain.decay_epochs) == (8, (3, 6))
    assert config.protocol == "last"


def test_params_yaml_is_the_quickstart(request):
    file = params_file(request.config.rootpath / "params.yaml", "params.yaml")
    assert file.grid is not None and file.grid.dataset == ("digits",)
    assert merged([file.layer("digits")]) == load(preset("digits"), environment={})


def test_later_layers_win_key_by_key(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: {lr: 0.1, epochs: 3}\nseed: 5\n")
    config = load(path, environment={"FKAL_TRAIN__LR": "0.2", "FKAL_SEED": "6"}, assignments=["seed=7"])
    assert (config.train.lr, config.train.epochs, config.seed) == (0.2, 3, 7)


def test_environment_and_set_read_values_as_yaml():
    config = merged([from_environment({"FKAL_ACQUISITION__TAPS": "[conv2]", "FKAL_DATA_ROOT": "0123"})])
    assert config.acquisition.taps == ("conv2",)
    assert config.data.root == "0123"
    assert layered("bias.kind=by_hand", "bias.fractions={5: 0.1, 7: 0}").bias.fractions == {5: 0.1, 7: 0.0}


def test_the_pseudo_label_true_is_a_name_and_no_boolean():
    assert layered("acquisition.pseudo_label=true").acquisition.pseudo_label == "true"


def test_variables_that_set_nothing_are_named():
    environment = {"FKAL_TRIAN__LR": "1", "FKAL_TRAIN__LR": "1", "FKAL_DATA_ROOT": "x", "HOME": "y"}
    assert unknown_variables(environment) == ["FKAL_TRIAN__LR"]


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("train.lrr=1", ["train.lrr", "unknown key", "did you mean 'lr'", "--set"]),
        ("trian.lr=1", ["trian", "unknown key", "did you mean 'train'"]),
        ("train.epochs=many", ["train.epochs", "'many'", "integer"]),
        ("train.epochs=2.5", ["train.epochs", "2.5", "integer"]),
        ("train.epochs=0", ["train.epochs", "0", "at least 1"]),
        ("train.lr=-1", ["train.lr", "-1", "above 0"]),
        ("train.momentum=1", ["train.momentum", "[0, 1)"]),
        ("train.decay=0", ["train.decay", "(0, 1]"]),
        ("train.start=cold", ["train.start", "'cold'", "warm"]),
        ("bias.ratio=0.5", ["bias.ratio", "0.5", "1 or more"]),
        ("bias.kind=odd", ["bias.kind", "'odd'", "imbalance"]),
        ("acquisition.budget=0", ["acquisition.budget", "0", "at least 1"]),
        ("acquisition.taps=[]", ["acquisition.taps", "at least one"]),
        ("acquisition.taps=[conv1, conv1]", ["acquisition.taps", "each once"]),
        ("acquisition.combine=times", ["acquisition.combine", "'times'", "product_of_sums"]),
        ("acquisition.pseudo_label=guess", ["acquisition.pseudo_label", "'guess'", "joint"]),
        ("pretrain.task=colour", ["pretrain.task", "'colour'", "rotation"]),
        ("epoch=best", ["epoch", "'best'", "best_on_test"]),
        ("protocol=best", ["epoch", "'best'", "best_on_test"]),
        ("device=gpu", ["device", "'gpu'"]),
        ("seed=-1", ["seed", "-1"]),
        ("threads=0", ["threads", "0"]),
        ("data.validation_per_class=0", ["data.validation_per_class", "0", "1 or more"]),
        ("train=3", ["train", "3", "section"]),
        ("seed=true", ["seed", "flag"]),
        ("train.epochs=no", ["train.epochs", "flag"]),
        ("acquisition.taps=conv2", ["acquisition.taps", "'conv2'", "list"]),
        ("train.lr=.inf", ["train.lr", "inf"]),
        ("train.decay_epochs=[-3]", ["train.decay_epochs", "-3"]),
        ("threads=100000000000", ["threads", "1024"]),
        ("data.image_size=40000", ["data.image_size", "40000", "4096"]),
    ],
)
def test_a_refusal_names_key_value_and_what_is_allowed(assignment, parts):
    with pytest.raises(ConfigError) as refusal:
        layered(assignment)
    message = str(refusal.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_every_problem_has_a_line_of_its_own():
    with pytest.raises(ConfigError) as refusal:
        layered("train.lr=x", "seed=-3", "bias.ratoi=2")
    assert len(str(refusal.value).splitlines()) == 3


@pytest.mark.parametrize("assignment", ["train.lr", "=3", "train.lr=[1"])
def test_an_assignment_that_is_none_is_refused(assignment):
    with pytest.raises(ConfigError, match="--set"):
        layered(assignment)


def test_a_params_file_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: [")
    with pytest.raises(ConfigError, match=r"params\.yaml: not valid YAML"):
        load(path, environment={})
    path.write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load(path, environment={})
    path.write_text("seed: 0\nseed: 1\n")
    with pytest.raises(ConfigError, match="'seed' stands twice"):
        load(path, environment={})
    path.write_text("- 3")
    with pytest.raises(ConfigError, match="mapping"):
        load(path, environment={})


def test_an_unknown_preset_is_refused_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        preset("minst")


def test_the_digest_knows_values_and_not_places():
    assert layered("data.root=/a", "data.workers=0").digest == layered().digest
    assert layered("train.lr=0.2").digest != layered().digest
    assert layered("seed=1").digest != layered().digest


def test_the_flat_tree_has_dotted_keys_and_plain_values():
    flat = layered("bias.kind=by_hand", "bias.fractions={5: 0.1}").flat
    assert flat["train.lr"] == 0.05
    assert json.loads(flat["acquisition.taps"]) == ["conv1", "conv2", "fc1"]
    assert json.loads(flat["bias.fractions"]) == {"5": 0.1}
    assert flat["threads"] is None
    assert all("." in key or key in ("epoch", "holdout", "seed", "device", "threads", "batch_parts") for key in flat)


@pytest.mark.parametrize(
    ("spec", "acquisition", "others"),
    [
        ("random", {"name": "random"}, {}),
        ("all", {"name": "all"}, {}),
        ("pcc@conv2", {"name": "pcc", "taps": ["conv2"]}, {}),
        ("pfk", {"name": "pfk"}, {}),
        ("pfk_true", {"name": "pfk", "pseudo_label": "true"}, {}),
        ("pfk_joint_zg", {"name": "pfk", "pseudo_label": "joint_zg"}, {}),
        ("pfk_mutual_information_diagonal", {"name": "pfk", "pseudo_label": "mutual_information_diagonal"}, {}),
        (
            "pfk_joint:sum@conv1+fc1",
            {"name": "pfk", "pseudo_label": "joint", "combine": "sum", "taps": ["conv1", "fc1"]},
            {},
        ),
        ("pfk:product_of_sums", {"name": "pfk", "combine": "product_of_sums"}, {}),
        ("varr:e4:k32", {"name": "varr", "ensemble": 4, "samples": 32}, {}),
        ("varr:k32:e4", {"name": "varr", "ensemble": 4, "samples": 32}, {}),
        ("mean_std:k8", {"name": "mean_std", "samples": 8}, {}),
        (
            "pfk_trace:k16@layer1.0.conv1",
            {"name": "pfk", "pseudo_label": "trace", "samples": 16, "taps": ["layer1.0.conv1"]},
            {},
        ),
        ("random:head_only", {"name": "random"}, {"train": {"layers": "head"}}),
        (
            "pfk_joint:sum:random_theta_0:head_only@conv2",
            {"name": "pfk", "pseudo_label": "joint", "combine": "sum", "taps": ["conv2"]},
            {"pretrain": {"task": "none"}, "train": {"layers": "head"}},
        ),
        (
            "pfk_joint_shift:coverage:whiten",
            {"name": "pfk", "pseudo_label": "joint_shift", "matching": "coverage", "whitening": "shrunk"},
            {},
        ),
        (
            "fisher_coverage:random_theta_0@conv2",
            {"name": "pfk", "pseudo_label": "joint_shift_grid", "matching": "coverage", "taps": ["conv2"]},
            {"pretrain": {"task": "none"}},
        ),
        ("my_own", {"name": "my_own"}, {}),
        ("my_own:k3", {"name": "my_own", "samples": 3}, {}),
    ],
)
def test_a_method_is_named_in_short(spec, acquisition, others):
    layer = method_layer(spec)
    assert (layer.origin, layer.values) == (f"--method {spec}", {"acquisition": acquisition, **others})
    assert layer.keeps_taps == ("taps" in acquisition)


def test_what_a_short_name_does_not_say_stays_as_configured():
    base = ("acquisition.samples=7", "acquisition.taps=[conv2]", "train.epochs=3", "pretrain.epochs=2")
    config = merged([from_assignments(base), method_layer("varr:e2:random_theta_0:head_only")])
    assert (config.acquisition.samples, config.acquisition.ensemble, config.acquisition.taps) == (7, 2, ("conv2",))
    assert (config.train.epochs, config.train.layers) == (3, "head")
    assert (config.pretrain.epochs, config.pretrain.task) == (2, "none")


@pytest.mark.parametrize("spec", ["varr:", "varr::k3", "varr@", ":k3", "", "@", "pfk_joint:sum:@conv1"])
def test_a_short_name_of_another_form_is_refused(spec):
    with pytest.raises(ConfigError, match=r"give NAME\[_PSEUDO-LABEL\]\[:MARK\.\.\.\]\[@TAP\+TAP\]"):
        method_layer(spec)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("pfk_joint:summ", ["'summ' is unknown", "did you mean 'sum'?"]),
        ("pfk:head_onyl", ["'head_onyl' is unknown", "did you mean 'head_only'?"]),
        ("pfk:random_theta0", ["did you mean 'random_theta_0'?"]),
        (
            "varr:4",
            [
                "'4' is unknown",
                "known: product, product_of_sums, sum, k_center, coverage, transport, ecov, noisy_or, wcov, "
                "wcov_zg, tail_first, whiten, random_theta_0, ",
            ],
        ),
        ("varr:e", ["'e' is unknown"]),
        ("varr:e-1", ["'e-1' is unknown"]),
        ("varr:k1.5", ["'k1.5' is unknown"]),
        ("varr:K32", ["'K32' is unknown"]),
    ],
)
def test_an_unknown_mark_is_refused_with_what_is_known(spec, parts):
    with pytest.raises(ConfigError) as refusal:
        method_layer(spec)
    message = str(refusal.value)
    assert message.startswith(f"--method {spec!r}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "spec", ["varr:k4:k8", "varr:e2:k4:e2", "pfk:sum:product", "pfk:coverage:k_center", "random:head_only:head_only"]
)
def test_a_mark_that_says_anew_what_another_said_is_refused(spec):
    with pytest.raises(ConfigError, match=f"{spec.rpartition(':')[2]}' says again what a mark before it said"):
        method_layer(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("varr:e0", r"acquisition\.ensemble = 0; give at least 1 \(in --method varr:e0\)"),
        ("varr:k0", r"acquisition\.samples = 0; give at least 1 \(in --method varr:k0\)"),
        (
            "pfk_jiont",
            r"--method 'pfk_jiont': unknown method 'pfk_jiont': pseudo_label = 'jiont'; "
            r"did you mean 'pfk_joint'\? give one of joint, ",
        ),
        ("pcc@conv1+conv1", r"acquisition\.taps = .* each once \(in --method pcc@conv1\+conv1\)"),
    ],
)
def test_what_a_mark_cannot_be_is_refused_where_it_was_said(spec, message):
    with pytest.raises(ConfigError, match=message):
        merged([method_layer(spec)])


def test_a_method_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="--method '@conv2'"):
        method_layer("@conv2")


def test_presets_are_shipped_with_the_package():
    assert {path.stem for path in presets().values()} >= {"digits", "mnist", "svhn", "imagenet"}
    assert (files("fkal") / "presets" / "mnist.yaml").is_file()


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ("{dataset: [digits], ratio: [a], method: [random]}", "grid.ratio: 'a' is no number; give some, say [1, 100]"),
        ("{dataset: [digits], method: []}", "grid.method = []: names none; give one or more, or leave grid out"),
        ("{dataset: [], method: [random]}", "grid.dataset = []: names none; give one or more, or leave grid out"),
    ],
)
def test_a_grid_says_in_one_line_what_is_wrong(tmp_path, grid, problem):
    path = tmp_path / "params.yaml"
    path.write_text(f"grid: {grid}\n")
    with pytest.raises(ConfigError) as refused:
        params_file(path, "params.yaml")
    assert str(refused.value) == f"params.yaml: {problem}"


RESNET_TAPS = ("layer3", "layer4")


@pytest.mark.parametrize(
    ("layers", "taps"),
    [
        ([{"model": {"name": "resnet10"}}], RESNET_TAPS),
        ([{"model": {"name": "resnet34"}}], RESNET_TAPS),
        ([{"model": {"name": "lenet"}}], ("conv1", "conv2", "fc1")),
        ([{"model": {"name": "resnet10"}, "acquisition": {"taps": ["layer2"]}}], ("layer2",)),
        ([{"acquisition": {"taps": ["conv2"]}}, {"model": {"name": "resnet10"}}], RESNET_TAPS),
        ([{"acquisition": {"taps": ["conv2"]}}, {"model": {"name": "lenet"}}], ("conv2",)),
        ([{"model": {"name": "resnet10"}}, {"acquisition": {"taps": ["layer1"]}}], ("layer1",)),
        ([{"model": {"name": "resnet10"}}, {"model": {"name": "no-such-model"}}], RESNET_TAPS),
    ],
)
def test_taps_follow_the_model_unless_they_are_named_as_late(layers, taps):
    assert merged([Layer("a layer", values) for values in layers]).acquisition.taps == taps


def test_taps_that_a_method_names_stay_whatever_model_is_set_later():
    model = Layer("--set", {"model": {"name": "resnet10"}})
    assert merged([method_layer("pcc@conv2"), model]).acquisition.taps == ("conv2",)
    assert merged([method_layer("pcc"), model]).acquisition.taps == RESNET_TAPS


def test_a_wrong_section_beside_a_model_is_named_and_not_followed():
    with pytest.raises(ConfigError, match="acquisition = 3: give a section"):
        merged([Layer("a layer", {"acquisition": 3, "model": {"name": "resnet10"}})])


def tree_of(folder: Path, params: Path, *assignments: str) -> str | None:
    params.parent.mkdir(parents=True, exist_ok=True)
    params.write_text(f"data: {{name: folder, root: root, folder: {folder}}}\n")
    return load(params, environment={}, assignments=assignments).data.folder


def test_a_tree_in_a_params_file_starts_from_the_file_and_then_from_the_data_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = Path("elsewhere/params.yaml")
    assert tree_of(Path("pets"), params) == "elsewhere/pets"
    Path("root/pets").mkdir(parents=True)
    assert tree_of(Path("pets"), params) == "pets"
    Path("pets").mkdir()
    assert tree_of(Path("pets"), params) == "root/pets"
    Path("elsewhere/pets").mkdir()
    assert tree_of(Path("pets"), params) == "elsewhere/pets"
    assert tree_of(Path("pets"), params, "data.folder=pets") == "pets"
    assert tree_of(tmp_path / "pets", params) == str(tmp_path / "pets")
    assert tree_of(Path("pets"), Path("params.yaml")) == "pets"


def test_a_validation_folder_that_nobody_set_changes_no_digest():
    tree = layered("data.name=folder", "data.folder=pets").tree
    assert "validation" not in about_data(tree) and about_data(tree)["validation_per_class"] == 30


def test_the_digest_holds_that_validation_has_a_folder_of_its_own_and_not_where():
    one, other, none = (
        layered("data.name=folder", "data.folder=pets", *more)
        for more in (["data.validation=a"], ["data.validation=b", "data.validation_per_class=7"], [])
    )
    assert one.digest == other.digest != none.digest
