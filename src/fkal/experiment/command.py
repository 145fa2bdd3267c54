"""The command line that makes an experiment, from its configuration alone."""

import shlex
from collections.abc import Iterator, Sequence
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
    nearest = min(_by_preset(config), key=lambda pair: len(pair[1]), default=None)
    if nearest is None:
        return f"fkal run --params params.yaml{SEEDS_OPTION}{seeds_text(seeds)}"
    preset, changed = nearest
    words = ["fkal", "run", "--preset", preset, "--method", short_method_name(method_name(config))]
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


def _by_preset(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each preset of the dataset that can run the method, and the settings in which the experiment differs from it."""
    ours = {key: value for key, value in read_params(config).items() if key not in PLACES}
    for name in presets():
        base = _preset_config(config, name)
        if base is not None:
            theirs = base.flat
            yield name, {key: value for key, value in ours.items() if theirs.get(key) != value}


def _preset_config(config: Config, name: str) -> Config | None:
    """The preset with the experiment's method; None if it has another dataset, or cannot run that method."""
    if not name.startswith(config.data.name):
        return None
    try:
        settings = from_file(presets()[name], f"preset {name}")
        base = merged([settings, method_layer(method_name(config)), Layer("seed", {"seed": config.seed})])
    except ConfigError:  # a method of a plug-in, say, whose name the short form cannot spell
        return None
    return base if base.data.name == config.data.name else None


def _yaml_text(value: Any) -> str:
    return "null" if value is None else str(value)
