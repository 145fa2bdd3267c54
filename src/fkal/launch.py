"""What `torchrun` says of the processes that it starts, in their environment. Imports no torch."""

import os
from collections.abc import Mapping
from typing import NamedTuple

STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Schedulers set RANK as well; this variable is torchrun's own."""


class Launch(NamedTuple):
    """This process among those that compute one run: its rank, their number, and both on this machine."""

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that prints, writes files and talks to the tracking store."""
        return self.rank == 0


def launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """By the environment; without torchrun, a single process."""
    if STARTED_BY_TORCHRUN not in environment:
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Launch(*(int(environment[name]) for name in names))
