"""`fkal grid`: a params file for the pipeline, made of packaged settings."""

from collections.abc import Sequence
from textwrap import indent

from fkal.config.layers import preset, yaml_value
from fkal.config.method_spec import method_layer
from fkal.config.params_file import seed_numbers
from fkal.config.schema import ConfigError

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


def grid_text(datasets: Sequence[str], ratios: Sequence[str], methods: Sequence[str], seeds: str) -> str:
    """YAML: the grid, and the settings of each dataset as its preset has them, comments and all."""
    seed_numbers(seeds)
    for ratio in ratios:
        if not isinstance(yaml_value(ratio, "--ratio"), int | float):
            raise ConfigError(f"--ratio {ratio!r}: give numbers, say 1,100")
    for method in methods:
        method_layer(method)
    named = {method.replace("@", "_").replace("+", "_"): method for method in methods}
    head = HEAD.format(datasets=", ".join(datasets), ratios=", ".join(ratios), methods=", ".join(named), seeds=seeds)
    renamed = ", ".join(f'{name}: "{method}"' for name, method in named.items() if name != method)
    sections = (f"  {name}:\n{indent(preset(name).read_text(), '    ')}" for name in datasets)
    return head + NAMES.format(names=renamed) + "".join(sections)
