"""Parts of a grid: each process of a Slurm array takes every n-th experiment. Imports no torch."""

import re
from collections.abc import Sequence
from typing import TypeVar

from fkal.config.schema import ConfigError
from fkal.errors import shortened

T = TypeVar("T")
SHARD = re.compile("([0-9]{1,5})/([0-9]{1,5})")


def in_shard(experiments: Sequence[T], shard: str | None) -> list[T]:
    """The experiments of one shard.

    Args:
        experiments: All of the grid, in its order.
        shard: `i/n`, the experiments i, i + n, i + 2 n, ... counted from 0; None for all of them.

    Returns:
        The shards 0/n to (n-1)/n together have each experiment once.

    Raises:
        ConfigError: The text is no shard, or no experiment is in it.
    """
    if shard is None:
        return list(experiments)
    match = SHARD.fullmatch(shard)
    if match is None:
        raise ConfigError(f"--shard {shortened(shard)}: give i/n, say 0/4, 1/4, 2/4 and 3/4 for four processes")
    index, count = int(match[1]), int(match[2])
    if index >= count:
        raise ConfigError(f"--shard {shard}: of {count} shards the first is 0/{count}, the last {count - 1}/{count}")
    chosen = list(experiments[index::count])
    if not chosen:
        raise ConfigError(
            f"--shard {shard}: there are {len(experiments)} experiments, so shards from {len(experiments)}/{count} on "
            "have none"
        )
    return chosen
