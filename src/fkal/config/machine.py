"""Where data lie and what computes: all that the pipeline takes from the environment, since DVC cannot see it."""

import os
from collections.abc import Mapping
from typing import Any

from fkal.config.layers import Layer, from_environment

HEARD = frozenset({"FKAL_DATA_ROOT", "FKAL_DATA__ROOT", "FKAL_DATA__WORKERS", "FKAL_DEVICE"})
"""Nothing that changes a result."""
OF_A_MACHINE = ("root", "workers")
"""Settings of `data` that these variables set."""


def heard() -> Layer:
    return from_environment({name: value for name, value in os.environ.items() if name in HEARD})


def as_planned(tree: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's tree as the plan has it, whose section is `data`: the same on every machine."""
    planned = {key: data[key] for key in OF_A_MACHINE if key in data}
    return {**{k: v for k, v in tree.items() if k != "device"}, "data": {**tree["data"], **planned}}
