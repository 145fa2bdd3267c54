"""What a mistyped method may have meant."""

import pytest

from fkal.acquisition.settings import MATCHING_NAMES, AcquisitionConfig
from fkal.config.method_spec import long_method_name, method_layer, short_method_name, with_alias
from fkal.config.schema import ConfigError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pfk_jont", "pfk_joint"),
        ("fisher_covrage", "fisher_coverage"),
        ("pfk_joint:coverag", "coverage"),
        ("pfk_joint:noisy", "noisy_or"),
    ],
)
def test_a_mistyped_label_alias_or_mark_is_answered_with_the_near_one(typed, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        method_layer(typed)


@pytest.mark.parametrize(
    ("key", "typed", "meant"), [("pseudo_label", "jont", "joint"), ("combine", "prodct", "product")]
)
def test_so_is_a_mistyped_setting(key, typed, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        AcquisitionConfig(**{key: typed})


@pytest.mark.parametrize(
    ("alias", "long"),
    [
        ("fisher_coverage", "pfk_joint_shift_grid:coverage"),
        ("weighted_coverage", "pfk_joint_shift_grid:wcov"),
        ("noisy_or", "pfk_joint_shift_grid:noisy_or"),
    ],
)
def test_an_alias_and_what_it_stands_for_are_one_method(alias, long):
    assert long_method_name(f"{alias}:k16@conv2") == f"{long}:k16@conv2"
    assert short_method_name(f"{long}:k16@conv2") == f"{alias}:k16@conv2"
    assert with_alias(f"digits-ir20-{long}-s0", long) == f"digits-ir20-{alias}-s0"
    assert method_layer(alias).values == method_layer(long).values


def test_other_methods_have_no_alias():
    for method in ("random", "pfk_joint_shift_grid:wcov_zg", "pfk_joint:coverage"):
        assert long_method_name(method) == short_method_name(method) == method


@pytest.mark.parametrize("matching", MATCHING_NAMES)
def test_every_matching_is_a_mark_of_a_methods_name(matching):
    layer = method_layer(f"pfk_joint_shift_grid:{matching}@conv2")
    assert layer.values["acquisition"] == {
        "name": "pfk",
        "pseudo_label": "joint_shift_grid",
        "matching": matching,
        "taps": ["conv2"],
    }
