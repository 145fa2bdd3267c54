"""Where data are and what computes: all that the pipeline takes from the environment, since DVC cannot see it."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fkal.config.layers import MEMORY, Layer, from_environment, merged
from fkal.config.schema import Config, ConfigError
from fkal.errors import shortened

MACHINE_VARIABLES = frozenset({"FKAL_DATA_ROOT", "FKAL_DATA__ROOT", "FKAL_DATA__WORKERS", "FKAL_DEVICE"})
"""Nothing that changes a result."""
MACHINE_KEYS = ("root", "workers")
"""Settings of `data` that these variables set."""


def machine_layer() -> Layer:
    return from_environment({name: value for name, value in os.environ.items() if name in MACHINE_VARIABLES})


def memory_gb(environment: Mapping[str, str] = os.environ) -> float:
    """GB (10^9 bytes) that descriptors or embeddings of a pool may take in memory, by `FKAL_MEMORY_GB`; else all.

    Raises ConfigError for what is no number above 0.
    """
    given = environment.get(MEMORY)
    if given is None:
        return math.inf
    try:
        bound = float(given)
    except ValueError:
        bound = math.nan
    if not bound > 0:
        raise ConfigError(f"{MEMORY} = {shortened(given)}: give the GB that descriptors of a pool may take, such as 8")
    return bound


def config_here(config: Config, record: str, data_root: Path | None) -> Config:
    """A recorded configuration; its images are where `--data-root` or the environment says, else where they were."""
    place = {} if data_root is None else {"data": {"root": str(data_root)}}
    return merged([Layer(record, config.tree), machine_layer(), Layer("--data-root", place)])


def as_planned(tree: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's tree as the plan has it, whose section is `data`: the same on every machine."""
    planned = {key: data[key] for key in MACHINE_KEYS if key in data}
    return {**{k: v for k, v in tree.items() if k != "device"}, "data": {**tree["data"], **planned}}
