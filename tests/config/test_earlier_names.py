"""Settings under their earlier names, and digests that new settings must not change."""

import pytest

from fkal.config.layers import Layer, from_assignments, from_environment, from_file, merged, preset
from fkal.config.method_spec import method_layer
from fkal.config.schema import Config, ConfigError
from fkal.experiment.names import experiment_name, method_digest

DIGESTS = {
    ("digits", ()): ("c82623528ecb", "a5547afce9b7"),
    ("mnist", ()): ("a871099192a1", "3a45394f2343"),
    ("mnist", ("protocol=paper", "holdout=2")): ("a19090f30acf", "f4ed4c298215"),
    ("svhn", ()): ("9c02704e29f6", "1685ec979d99"),
    ("cifar10", ()): ("e4f9437fa923", "4199470f6b47"),
    ("tinyimagenet", ()): ("015514bc25e7", "702546da6547"),
    ("imagenet", ()): ("7f19bbc97907", "258da3e66c84"),
}
"""As version 0.1 had them: of the settings, and of the method."""


@pytest.mark.parametrize(("name", "assignments"), list(DIGESTS))
def test_digests_are_those_of_before_the_settings_that_came_later(name, assignments):
    layers = [from_file(preset(name), name), method_layer("fisher_coverage"), from_assignments(assignments)]
    config = merged(layers)
    assert (config.digest[:12], method_digest(config)[:12]) == DIGESTS[name, assignments]


@pytest.mark.parametrize(("before", "now"), [("paper", "best_on_test"), ("last", "last")])
def test_protocol_is_read_as_epoch(before, now):
    layers = [
        from_assignments([f"protocol={before}"]),
        from_environment({"FKAL_PROTOCOL": before}),
        Layer("about.json", {"protocol": before}),
    ]
    assert {merged([layer]).epoch for layer in layers} == {now}
    assert Config.model_validate({"protocol": before}).epoch == now


def test_the_later_layer_counts_under_whichever_name():
    old, new = from_assignments(["protocol=paper"]), from_assignments(["epoch=last"])
    assert merged([old, new]).epoch == "last"
    assert merged([new, old]).epoch == "best_on_test"


def test_both_names_with_two_meanings_are_refused():
    with pytest.raises(ConfigError, match=r"--set: protocol = 'paper' and epoch = 'last' contradict each other"):
        merged([from_assignments(["protocol=paper", "epoch=last"])])
    assert merged([from_assignments(["protocol=paper", "epoch=best_on_test"])]).epoch == "best_on_test"


def test_an_experiment_keeps_its_name():
    config = merged([from_file(preset("digits"), "digits"), from_assignments(["epoch=best_on_test"])])
    assert experiment_name(config) == "digits-ir20-pfk_joint-paper_protocol-s0"


@pytest.mark.parametrize("text", ["true", "false", "True", "yes", "off"])
def test_a_flag_is_given_as_yaml_has_it(text):
    assert merged([from_assignments([f"train.on_validation={text}"])]).train.on_validation is (
        text in ("true", "True", "yes")
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.on_validation=maybe", r"train.on_validation = 'maybe': give true or false \(in --set\)"),
        ("train.lr=true", "train.lr: true or false; this setting is no flag, give a number or a name"),
        ("train.loss=focal", "train.loss = 'focal'"),
        ("data.per_class=0", "per_class: 0: too small; give 1 or more"),
        ("data.groups=''", "groups: '': give a regular expression with captures"),
        ("bias.cut=half", r"bias.cut = 'half': give a list of classes, say \[5, 6\], or random_half \(in --set\)"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(assignment, message):
    with pytest.raises(ConfigError, match=message):
        merged([from_assignments([assignment])])


def test_what_is_not_usual_in_training_is_in_the_name():
    layers = [from_file(preset("digits"), "digits")]
    config = merged([*layers, from_assignments(["train.loss=balanced_softmax", "train.on_validation=true"])])
    assert experiment_name(config) == "digits-ir20-pfk_joint-balanced_softmax-on_validation-s0"
