"""How far a phase is. Imports no torch: the command line draws bars of it."""

from typing import NamedTuple


class Progress(NamedTuple):
    """How far a phase is, for whoever draws bars: `done` of `total` units."""

    phase: str
    done: int
    total: int
    unit: str
