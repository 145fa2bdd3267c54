"""Where data are and what computes: all that the pipeline takes from the environment, since DVC cannot see it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fkal.config.layers import Layer, from_environment, merged
from fkal.config.schema import Config

MACHINE_VARIABLES = frozenset({"FKAL_DATA_ROOT", "FKAL_DATA__ROOT", "FKAL_DATA__WORKERS", "FKAL_DEVICE"})
"""Nothing that changes a result."""
MACHINE_KEYS = ("root", "workers")
"""Settings of `data` that these variables set."""


def machine_layer() -> Layer:
    return from_environment({name: value for name, value in os.environ.items() if name in MACHINE_VARIABLES})


def config_here(config: Config, record: str, data_root: Path | None) -> Config:
    """A recorded configuration; its images are where `--data-root` or the environment says, else where they were."""
    place = {} if data_root is None else {"data": {"root": str(data_root)}}
    return merged([Layer(record, config.tree), machine_layer(), Layer("--data-root", place)])


def as_planned(tree: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's tree as the plan has it, whose section is `data`: the same on every machine."""
    planned = {key: data[key] for key in MACHINE_KEYS if key in data}
    return {**{k: v for k, v in tree.items() if k != "device"}, "data": {**tree["data"], **planned}}
