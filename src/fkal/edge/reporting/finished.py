"""Finished experiments as the report reads them, and all their iterations as one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from fkal.edge.bills import PHASES
from fkal.edge.outcomes import Outcome
from fkal.edge.publishing import curves_of
from fkal.engine.rounds import Round

Weights = Mapping[str, Tensor]


class SplitFacts(NamedTuple):
    """Of a split file: images by part and class, the rare classes, the digest of the images."""

    class_counts: Mapping[str, Sequence[int]]
    rare: tuple[int, ...]
    data_digest: str


@dataclass(frozen=True)
class Finished:
    """One experiment whose iterations are all there.

    `last_weights` reads the model of its last iteration; `split` is None where the split's file is gone.
    `made_with` tells of versions and hardware, as far as that was recorded.
    """

    outcome: Outcome
    last_weights: Callable[[], Weights]
    split: SplitFacts | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """All that a report is made of: a row an iteration, and the experiments where more than curves is known.

    `source` are the options that name it on the command line; `notes` say what was left out and why.
    """

    frame: pd.DataFrame
    finished: Sequence[Finished]
    source: tuple[str, ...]
    notes: tuple[str, ...] = ()


def rounds_frame(finished: Sequence[Finished]) -> pd.DataFrame:
    """One row a seed and iteration: whose it is, its metrics as fractions, its passes (images) and seconds by phase."""
    frame = curves_of([each.outcome for each in finished])
    rounds = [finished_round for each in finished for finished_round in each.outcome.rounds]
    return pd.concat([frame, pd.DataFrame([_costs(each) for each in rounds])], axis=1)


def _costs(finished: Round) -> dict[str, float]:
    """Seconds are missing, not 0, where none were kept."""
    costs: dict[str, float] = {}
    for phase, belongs in PHASES.items():
        ways = (finished.forward_images, finished.backward_images)
        costs[f"{phase}_passes"] = sum(n for way in ways for name, n in way.items() if belongs(name))
        if finished.seconds:
            costs[f"{phase}_seconds"] = sum(s for name, s in finished.seconds.items() if belongs(name))
    return costs
