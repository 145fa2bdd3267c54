import pytest
from pydantic import TypeAdapter, ValidationError

from fkal.data.settings import BiasConfig, DataConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "name"),
        ({"root": ""}, "root"),
        ({"name": "folder", "folder": ""}, "it is the path of an image tree"),
        ({"folder": "cats"}, "set name=folder"),
        ({"validation": "cats"}, "set name=folder"),
        ({"validation_per_class": 0}, "give 1 or more"),
        ({"workers": -1}, "give 0 or more"),
        ({"image_size": 0}, "give 1 or more"),
        ({"std": (0.5, 0.0)}, "positive"),
        ({"mean": (float("nan"),)}, "finite"),
    ],
)
def test_data_settings_that_make_no_sense_are_refused_with_a_way_out(settings, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 0.5}, "give 1 or more"),
        ({"ratio": float("nan")}, "give 1 or more"),
        ({"ratio": float("inf")}, "give 1 or more"),
        ({"kind": "by_hand"}, "fractions: not set"),
        ({"kind": "by_hand", "fractions": {}}, "fractions: not set"),
        ({"kind": "by_hand", "fractions": {1: 0.5}, "ratio": 10.0}, r"set bias\.ratio=1"),
        ({"kind": "by_hand", "fractions": {1: 1.5}}, "0 to 1"),
        ({"kind": "by_hand", "fractions": {-1: 0.5}}, "count from 0"),
        ({"fractions": {1: 0.5}}, "set kind=by_hand"),
        ({"kind": "long_tail", "cut": (1,)}, "leave cut unset"),
        ({"kind": "none", "ratio": 2.0}, "leaves the pool as it is"),
        ({"kind": "none", "cut": (1,)}, "leave cut unset"),
        ({"cut": ()}, "leave cut unset"),
        ({"cut": (1, 1)}, "each named once"),
        ({"cut": (-1,)}, "count from 0"),
    ],
)
def test_biases_that_make_no_sense_are_refused_with_a_way_out(settings, message):
    with pytest.raises(ValueError, match=message):
        BiasConfig(**settings)


def test_pydantic_reads_both_and_refuses_unknown_fields():
    bias = TypeAdapter(BiasConfig).validate_python({"kind": "by_hand", "fractions": {"3": 0.1}})
    assert bias == BiasConfig(kind="by_hand", fractions={3: 0.1})
    assert TypeAdapter(DataConfig).validate_python({"mean": [0.1]}) == DataConfig(mean=(0.1,))
    with pytest.raises(ValidationError, match="rato"):
        TypeAdapter(BiasConfig).validate_python({"rato": 2})
    with pytest.raises(ValidationError, match="imbalance"):
        TypeAdapter(BiasConfig).validate_python({"kind": "tilt"})
    with pytest.raises(ValidationError, match="give 1 or more"):
        TypeAdapter(BiasConfig).validate_python({"ratio": 0})
