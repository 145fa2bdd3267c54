"""Finished experiments as the report reads them, and all their iterations as one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from fkal.edge.bills import PHASES
from fkal.edge.outcomes import Group, Outcome, group_of
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


def material_of(finished: Sequence[Finished], source: tuple[str, ...], notes: Sequence[str] = ()) -> Material:
    """Of finished experiments, by dataset, method and seed.

    Of several that only settings beyond their names tell apart the one with the most iterations is taken, and of
    equals that with the smallest fingerprint; the notes say which were left out.
    """
    alike: dict[tuple[Group, str, int], list[Finished]] = {}
    for each in finished:
        outcome = each.outcome
        alike.setdefault((group_of(outcome), outcome.method, outcome.config.seed), []).append(each)
    chosen, left_out = [], list(notes)
    for several in alike.values():
        kept, *others = sorted(several, key=lambda e: (-len(e.outcome.rounds), e.outcome.fingerprint))
        chosen.append(kept)
        left_out += [_why_not(other, kept) for other in others]
    chosen.sort(key=lambda each: (each.outcome.config.data.name, each.outcome.method, each.outcome.config.seed))
    return Material(rounds_frame(chosen), chosen, source, tuple(left_out))


def _why_not(other: Finished, kept: Finished) -> str:
    out, shown = other.outcome, kept.outcome
    return (
        f"{out.fingerprint[:8]}: another {shown.name} with other settings and {len(out.rounds)} iterations; "
        f"{shown.fingerprint[:8]} with {len(shown.rounds)} is shown"
    )


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
