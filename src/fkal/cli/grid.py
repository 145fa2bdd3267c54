"""`fkal grid`: a params file for the pipeline, made of packaged settings."""

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from textwrap import indent

from fkal.config.layers import preset, yaml_value
from fkal.config.method_spec import method_layer
from fkal.config.params_file import params_of, refuse_unspeakable, seed_numbers
from fkal.config.schema import ConfigError
from fkal.errors import shortened
from fkal.escaping import json_text
from fkal.runner.expand import Sources, experiments_of

HEAD = """\
# What `dvc repro` and `fkal run` compare: every dataset x ratio x method, each with every seed.
grid:
  dataset: [{datasets}]
  ratio: [{ratios}]      # bias.ratio: how many times rarer the cut classes are in the pool
  method: [{methods}]
  seeds: {seeds}
"""

NAMES = """
# Methods that cannot name a stage as they are written, by a name that can: {{pcc_conv2: pcc@conv2}}.
methods: {{{names}}}

# The settings of each dataset.
datasets:
"""


FOLDER = "folder"
NO_FOLDER = "  folder: null "
"""The line of the preset for own images that says which."""


def grid_text(
    datasets: Sequence[str], ratios: Sequence[str], methods: Sequence[str], seeds: str, folder: str | None = None
) -> str:
    """YAML: the grid, and the settings of each dataset as its preset has them, comments and all.

    `folder` is the tree of own images, which the dataset `folder` needs.
    Raises ConfigError for what `fkal plan` would refuse.
    """
    for option, words in (("--dataset", datasets), ("--ratio", ratios), ("--method", methods)):
        _refuse_repeated(option, words)
    seed_numbers(seeds)
    for ratio in ratios:
        _refuse_no_ratio(ratio)
    for method in methods:
        method_layer(method)
    named = {method.replace("@", "_").replace("+", "_"): method for method in methods}
    refuse_unspeakable(named, "--method")
    if folder is not None and FOLDER not in datasets:
        raise ConfigError(f"--folder {shortened(folder)}: --dataset does not name {FOLDER}, which alone reads it")
    if len(named) < len(methods):
        raise ConfigError(f"--method {','.join(methods)}: two have one name in the pipeline; write the params by hand")
    head = HEAD.format(datasets=", ".join(datasets), ratios=", ".join(ratios), methods=", ".join(named), seeds=seeds)
    renamed = ", ".join(f'{name}: "{method}"' for name, method in named.items() if name != method)
    presets = {name: _settings_text(name, folder) for name in datasets}
    sections = (f"  {name}:\n{indent(preset, '    ')}" for name, preset in presets.items())
    text = head + NAMES.format(names=renamed) + "".join(sections)
    _refuse_unplannable(text, seeds)
    return text


def _settings_text(name: str, folder: str | None) -> str:
    text = preset(name).read_text(encoding="utf-8")
    if name != FOLDER:
        return text
    if not folder:
        raise ConfigError(f"--dataset {FOLDER}: say where your images are, with --folder PATH")
    return text.replace(NO_FOLDER, f"  folder: {json_text(folder)} ", 1)


def _refuse_repeated(option: str, words: Sequence[str]) -> None:
    twice = [word for word, times in Counter(words).items() if times > 1]
    if twice:
        raise ConfigError(f"{option} {shortened(','.join(words))}: {shortened(twice[0])} stands twice; give it once")


def _refuse_no_ratio(text: str) -> None:
    ratio = yaml_value(text, "--ratio")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not isfinite(ratio) or ratio < 1:
        raise ConfigError(f"--ratio {shortened(text)}: give numbers of 1 or more, say 1,100")


def _refuse_unplannable(text: str, seeds: str) -> None:
    """Resolves the grid as the plan does, with one seed."""
    file = params_of(yaml_value(text, "fkal grid"), "fkal grid")
    sources = Sources(environment={}, tuned=None)
    experiments_of(file, sources, None, str(seed_numbers(seeds)[0]))
