"""What the machine sets: the bound of memory, which changes no result."""

import math

import pytest

from fkal.config.layers import unknown_variables
from fkal.config.machine import memory_gb
from fkal.config.schema import ConfigError


def test_without_the_variable_memory_holds_all():
    assert memory_gb({}) == math.inf


def test_the_variable_is_known_and_read_as_gb():
    environment = {"FKAL_MEMORY_GB": "0.5"}
    assert memory_gb(environment) == 0.5
    assert unknown_variables(environment) == []


@pytest.mark.parametrize("value", ["", "8GB", "0", "-1", "nan"])
def test_what_is_no_number_above_0_is_refused(value):
    with pytest.raises(ConfigError, match=r"FKAL_MEMORY_GB = .*give the GB"):
        memory_gb({"FKAL_MEMORY_GB": value})
