"""The command line that makes an experiment, from its configuration alone."""

import shlex
from collections.abc import Sequence
from typing import Any

from fkal.config.layers import Layer, from_file, merged, presets
from fkal.config.method_spec import method_layer, short_method_name
from fkal.config.schema import Config, ConfigError
from fkal.experiment.names import method_name, read_params

SEEDS_OPTION = " --seeds "
"""Stands last in a command, so that other seeds can be put in its place."""

PLACES = frozenset({"seed", "device", "data.root", "data.workers"})
"""Settings that no command has to repeat: options of their own name them, or the machine does."""


def command_of(config: Config, seeds: Sequence[int]) -> str:
    """`fkal run --preset mnist --method pfk_joint --set train.lr=0.05 --seeds 0-2`.

    A dataset without a preset is run from `params.yaml`, which MLflow keeps beside the run.
    """
    base = _preset_config(config)
    if base is None:
        return f"fkal run --params params.yaml{SEEDS_OPTION}{seeds_text(seeds)}"
    theirs, ours = base.flat, read_params(config)
    changed = {key: value for key, value in ours.items() if key not in PLACES and theirs.get(key) != value}
    words = ["fkal", "run", "--preset", config.data.name, "--method", short_method_name(method_name(config))]
    for key, value in changed.items():
        words += ["--set", f"{key}={_yaml_text(value)}"]
    return f"{shlex.join(words)}{SEEDS_OPTION}{seeds_text(seeds)}"


def seeds_text(seeds: Sequence[int]) -> str:
    """`0-2,7` of [0, 1, 2, 7], as `--seeds` reads it."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _preset_config(config: Config) -> Config | None:
    """The dataset's preset with the experiment's method; None if there is none, or if it cannot run that method."""
    path = presets().get(config.data.name)
    if path is None:
        return None
    try:
        settings = from_file(path, f"preset {config.data.name}")
        base = merged([settings, method_layer(method_name(config)), Layer("seed", {"seed": config.seed})])
    except ConfigError:  # a method of a plug-in, say, whose name the short form cannot spell
        return None
    return base if base.data.name == config.data.name else None


def _yaml_text(value: Any) -> str:
    return "null" if value is None else str(value)
