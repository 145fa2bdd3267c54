"""Search spaces, objectives, samplers and pruners by name, with nothing run."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from fkal.config.layers import from_assignments, from_file, merged, preset
from fkal.config.schema import Config, ConfigError
from fkal.experiment.checks import refuse_unfit_for_frozen
from fkal.tuning.objectives import objectives
from fkal.tuning.samplers import PRUNERS, SAMPLERS, pruner_named, sampler_named
from fkal.tuning.search_space import EmptyTaps, Space, search_space, with_settings


def digits(*assignments: str) -> Config:
    return merged([from_file(preset("digits"), "digits"), from_assignments(assignments)])


def frozen(*assignments: str) -> Config:
    return merged([from_file(preset("cifar10-frozen"), "cifar10-frozen"), from_assignments(assignments)])


NUMBERS = Space({"train.lr": FloatDistribution(0.01, 1.0, log=True)}, {"train.lr": 0.05})


def test_batch_size_and_a_boolean_a_tap_are_searched_by_default():
    space = search_space(digits(), [], None)
    assert space.distributions["train.batch_size"] == IntDistribution(5, 80, log=True)
    taps = [f"taps/{tap}" for tap in ("conv1", "conv2", "fc1")]
    assert list(space.distributions) == ["train.batch_size", *taps]
    assert space.defaults == {"train.batch_size": 20, **dict.fromkeys(taps, True)}
    assert space.keys == ["train.batch_size", "acquisition.taps"]


def test_a_trial_sets_what_it_was_given_and_never_no_taps():
    space = search_space(digits(), [], None)
    config = with_settings(digits(), space.settings({**space.defaults, "taps/conv2": False}))
    assert config.acquisition.taps == ("conv1", "fc1")
    none = {name: False if "/" in name else value for name, value in space.defaults.items()}
    with pytest.raises(EmptyTaps):
        space.settings(none)


def test_every_usual_tap_of_the_model_is_offered_beside_the_configured_ones():
    space = search_space(digits("acquisition.taps=[conv2, fc2]"), [], None)
    assert space.taps == ("conv1", "conv2", "fc1", "fc2")
    assert [space.defaults[f"taps/{tap}"] for tap in space.taps] == [False, True, False, True]
    torchvision = search_space(digits("model.name=resnet50", "acquisition.taps=[layer2]"), [], None)
    assert torchvision.taps == ("layer3", "layer4", "layer2")


def test_decays_move_with_the_epochs_that_are_searched():
    base = digits()
    assert (base.train.epochs, base.train.decay_epochs) == (50, (15, 30, 45))
    space = search_space(base, ["epochs"], None)
    config = with_settings(base, space.settings({**space.defaults, "train.epochs": 25}))
    assert (config.train.epochs, config.train.decay_epochs) == (25, (8, 15, 22))
    assert "train.decay_epochs" in space.described
    without = search_space(base, [], None)
    assert "train.decay_epochs" not in without.settings(without.defaults)


def test_of_a_frozen_backbone_the_head_is_searched_which_has_neither_batches_nor_taps():
    base = frozen()
    space = search_space(base, [], None)
    assert space.distributions == {
        "train.loss": CategoricalDistribution(["plain", "class_balanced", "balanced_softmax"]),
        "features.pca": IntDistribution(64, 1024, log=True),
    }
    assert with_settings(base, space.settings(space.defaults)) == base
    assert search_space(frozen("features.pca=null"), [], None).keys == ["train.loss"]


def test_estimators_that_turn_images_are_no_choice_of_a_frozen_backbone():
    choices = search_space(frozen(), ["pseudo_label"], None).distributions["acquisition.pseudo_label"].choices
    assert {"joint", "joint_shift_grid", "predicted"} <= set(choices)
    for name in choices:
        refuse_unfit_for_frozen(with_settings(frozen(), {"acquisition.pseudo_label": name}))


@pytest.mark.parametrize(
    ("key", "settings", "expected"),
    [
        ("batch_size", [], "a frozen run does not read train.batch_size"),
        ("taps", [], "a frozen run does not read acquisition.taps"),
        ("pca", ["features.pca=null"], "the configured value, which is null"),
        ("pca", ["train.layers=all", "features.pca=null"], "a run that is not frozen does not read features.pca"),
    ],
)
def test_what_a_frozen_backbone_cannot_search_is_refused(key, settings, expected):
    with pytest.raises(ConfigError, match=expected):
        search_space(frozen(*settings), [key], None)


@pytest.mark.parametrize("method", ["random", "entropy", "vaal"])
def test_a_method_that_reads_no_taps_gets_none(method):
    assert search_space(digits(f"acquisition.name={method}"), [], None).keys == ["train.batch_size"]


def test_every_short_name_can_be_searched_around_the_configured_value():
    base = digits("acquisition.pseudo_label=trace")
    space = search_space(base, ["lr", "decay", "epochs", "combine", "pseudo_label", "matching", "whitening", "k"], None)
    assert "true" not in space.distributions["acquisition.pseudo_label"].choices
    assert isinstance(space.distributions["acquisition.combine"], CategoricalDistribution)
    assert with_settings(base, space.settings(space.defaults)) == base


def test_the_params_file_names_the_space_and_options_add_to_it():
    given = {
        "train.lr": {"low": 0.001, "high": 0.1, "log": True},
        "batch_size": [10, 20],
        "taps": ["conv1", "conv2", "fc1"],
    }
    space = search_space(digits(), ["epochs"], given)
    assert space.keys == ["train.lr", "train.batch_size", "acquisition.taps", "train.epochs"]
    assert space.distributions["train.batch_size"] == CategoricalDistribution([10, 20])


@pytest.mark.parametrize(
    ("method", "more", "given", "words"),
    [
        ("pfk", ["epoch"], None, "'epoch' cannot be searched; did you mean 'epochs'"),
        ("pfk", ["k"], None, "k: pfk does not read acquisition.samples"),
        ("entropy", ["combine"], None, "combine: entropy does not read acquisition.combine"),
        ("pfk", ["acquisition.budget"], None, "'acquisition.budget' cannot be searched"),
        ("pfk", [], {"train.lr": {"lo": 0.01, "high": 0.1}}, "tune.space.train.lr.lo: unknown; did you mean 'low'"),
        ("pfk", [], {"train.lr": {"low": 0.1, "high": 0.01}}, "low 0.1 is not below high 0.01; exchange them"),
        ("pfk", [], {"train.lr": {"low": 0, "high": 0.1, "log": True}}, "log: true wants low above 0"),
        ("pfk", [], {"train.lr": {"low": "a", "high": 0.1}}, "tune.space.train.lr.low: input should be a valid"),
        ("pfk", [], {"train.lr": {"low": 0.1, "high": 0.2}}, "the configured value 0.05 is not in it"),
        ("pfk", [], {"train.batch_size": [10, 25]}, "the configured value 20 is not in it"),
        ("pfk", [], {"train.batch_size": {"low": 0, "high": 25}}, "batch_size = 0; give at least 1"),
        ("pfk", [], {"train.batch_size": 20}, "give a list of choices"),
        ("pfk", [], {"acquisition.combine": ["product", "prodct"]}, "give one of"),
        ("pfk", [], {"taps": ["conv1"]}, "lacks the configured conv2, fc1"),
        ("pfk", [], {"taps": "conv1"}, "list the taps to choose among"),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_its_key(method, more, given, words):
    with pytest.raises(ConfigError) as refusal:
        search_space(digits(f"acquisition.name={method}"), more, given)
    assert words in str(refusal.value)


def test_a_matching_that_cannot_be_had_with_parts_is_refused_before_the_first_trial():
    base = digits("acquisition.parts=4")
    with pytest.raises(ConfigError, match=r"^tune.space.acquisition.matching: acquisition.parts = 4: pfk:noisy_or"):
        search_space(base, ["matching"], None)
    space = search_space(base, [], {"matching": ["k_center", "coverage"]})
    assert space.keys == ["acquisition.matching"]
    with pytest.raises(ConfigError, match=r"'acquisition.parts' cannot be searched"):
        search_space(base, ["acquisition.parts"], None)


@pytest.mark.parametrize("text", ["aubc,final", "cost", "aubc,aubc", "cost,aubc", "aubc,cost,final"])
def test_objectives_are_one_accuracy_and_at_most_the_cost(text):
    assert [each.name for each in objectives("minority,cost")] == ["minority", "cost"]
    with pytest.raises(ConfigError, match="give one accuracy"):
        objectives(text)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'final'"):
        objectives("finale")
    with pytest.raises(ConfigError, match="did you mean 'random'"):
        sampler_named("randm", NUMBERS, n_objectives=1)
    with pytest.raises(ConfigError, match="did you mean 'median'"):
        pruner_named("medain", budget=10, rounds=3)


def test_a_sampler_that_does_not_suit_is_refused_in_words():
    with pytest.raises(ConfigError, match="searches numbers alone, not taps"):
        sampler_named("cmaes", search_space(digits(), [], None), n_objectives=1)
    with pytest.raises(ConfigError, match="it has one objective"):
        sampler_named("cmaes", NUMBERS, n_objectives=2)


def test_a_package_that_is_absent_is_named(monkeypatch):
    monkeypatch.setattr("fkal.tuning.samplers.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install cmaes"):
        sampler_named("cmaes", NUMBERS, n_objectives=1)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "cmaes"])
def test_every_sampler_can_be_made(name):
    assert sampler_named(name, search_space(digits(), [], None), n_objectives=1)(3)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_can_be_made(name):
    assert pruner_named(name, budget=10, rounds=3)
