"""Picks of evidence that was gathered under autocast, ranked again: each pick counts by a pass in float32.

What is picked first tells which images matter. Their rows are made again in float32 and take the place of the others;
then the method picks from the same pool again, until it picks no image whose row is of the lower precision.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from fkal.core.descriptors import Descriptors
from fkal.core.evidence import (
    Calibrated,
    Coverage,
    Evidence,
    Features,
    FisherScores,
    LastLayer,
    Outputs,
    Posteriors,
    Predictions,
    Queried,
    StreamedOutputs,
    Supervised,
    WeighedPosteriors,
    WeighedScores,
)
from fkal.core.picks import Picks
from fkal.core.row_stream import PoolDescriptors, Rows, RowStream, StreamedDescriptors, with_rows
from fkal.engine.describing import Batch
from fkal.engine.gathering import RoundContext, logits_of, outputs_of
from fkal.engine.precision import AUTOCAST, exact, resolved
from fkal.engine.processes import ALONE
from fkal.engine.progress import Progress

MOST_TURNS = 8
"""Greedy picks can change with each row that does; the last ones then count as they are."""

PICKS = "picks in float32"
"""What progress calls their passes."""

OfOutputs = TypeVar("OfOutputs", LastLayer, Supervised)


class Ranked(NamedTuple):
    """The picks, the evidence that they were picked from, and how many images have passed again for it."""

    picks: Picks
    evidence: Evidence
    passed_again: int


def ranked_again(
    context: RoundContext, evidence: Evidence, choose: Callable[[Evidence], Picks]
) -> Generator[Progress, None, Ranked]:
    """`choose` from the evidence, and where the pool's rows are of autocast, from evidence that is exact for the picks.

    `choose` must pick the same from the same evidence, so what it draws is drawn alike at each call. Class
    probabilities and labels that were estimated from the whole pool, and what the model says of it, stay as they are.
    """
    picks = choose(evidence)
    makes_exact = _MAKES_EXACT.get(type(evidence))
    if makes_exact is None or resolved(context.config.precision, context.meter.device) not in AUTOCAST:
        return Ranked(picks, evidence, 0)
    is_exact = torch.zeros(evidence.n, dtype=torch.bool)
    for _ in range(MOST_TURNS):
        positions = picks.positions.cpu()
        missing = positions[~is_exact[positions]]
        if not len(missing):
            break
        evidence = yield from makes_exact(_of_few(context), evidence, missing.sort().values)
        is_exact[missing] = True
        picks = choose(evidence)
    return Ranked(picks, evidence, int(is_exact.sum()))


def _of_few(context: RoundContext) -> RoundContext:
    """For passes over few images of the pool, which no cache keeps and the first of several processes makes alone."""
    config = replace(context.config, precision=exact(context.config.precision))
    return replace(context, cache=None, config=config, processes=ALONE)


def _described(context: RoundContext, evidence: Features, at: Int[Tensor, " r"]) -> Generator[Progress, None, Features]:
    """z, and g under the labels that it was taken under before."""
    labels = torch.full_like(context.images.labels, -1)
    with_grad = isinstance(evidence, FisherScores)
    if isinstance(evidence, FisherScores):
        labels[context.open_pool[at]] = evidence.pseudo_labels.cpu()[at].to(labels)

    def known(batch: Batch) -> Tensor:
        return labels[batch.indices].to(batch.logits.device) if with_grad else batch.logits.argmax(dim=1)

    found = yield from context.describer.describe(
        context.open_pool[at], known, labels="estimated", with_grad=with_grad, what=PICKS
    )
    rows = evidence.whiten(found.in_memory)
    return replace(evidence, pool=_with_descriptors(evidence.pool, at, rows))


def _with_descriptors(pool: PoolDescriptors, at: Int[Tensor, " r"], rows: Descriptors) -> PoolDescriptors:
    z = {tap: with_rows(block, at, rows.z[tap]) for tap, block in pool.z.items()}
    g = {tap: with_rows(block, at, rows.g[tap]) for tap, block in pool.g.items()}
    if isinstance(pool, StreamedDescriptors):
        return StreamedDescriptors(z, g)
    return Descriptors(_in_memory(z), _in_memory(g))


def _in_memory(blocks: Mapping[str, Rows]) -> dict[str, Tensor]:
    return {tap: block for tap, block in blocks.items() if isinstance(block, Tensor)}


def _covered(context: RoundContext, evidence: Coverage, at: Int[Tensor, " r"]) -> Generator[Progress, None, Coverage]:
    rows = yield from context.describer.features(context.open_pool[at], what=PICKS)
    return replace(evidence, pool=with_rows(evidence.pool, at, rows[:]))


def _predicted(
    context: RoundContext, evidence: Predictions, at: Int[Tensor, " r"]
) -> Generator[Progress, None, Predictions]:
    rows = yield from logits_of(context, context.open_pool[at], PICKS)
    return Predictions(evidence.logits.index_copy(0, at.to(rows.device), rows))


def _put_out(context: RoundContext, evidence: OfOutputs, at: Int[Tensor, " r"]) -> Generator[Progress, None, OfOutputs]:
    rows = yield from outputs_of(context, context.open_pool[at], PICKS)
    made = evidence.pool.logits.index_copy(0, at.to(rows.logits.device), rows.logits)
    features = with_rows(evidence.pool.features, at, rows.features)
    pool = StreamedOutputs(made, features) if isinstance(features, RowStream) else Outputs(made, features)
    return replace(evidence, pool=pool)


def _asked(context: RoundContext, evidence: Queried, at: Int[Tensor, " r"]) -> Generator[Progress, None, Queried]:
    rows = yield from outputs_of(context, context.open_pool[at], PICKS)
    return replace(evidence, pool=with_rows(evidence.pool, at, rows.features))


MakeExact = Callable[[RoundContext, Any, Tensor], Generator[Progress, None, Evidence]]

_MAKES_EXACT: Mapping[type[Evidence], MakeExact] = MappingProxyType(
    {
        Features: _described,
        FisherScores: _described,
        Posteriors: _described,
        WeighedPosteriors: _described,
        WeighedScores: _described,
        Coverage: _covered,
        Predictions: _predicted,
        LastLayer: _put_out,
        Supervised: _put_out,
        Calibrated: _put_out,
        Queried: _asked,
    }
)
"""By kind of evidence: the same with exact rows at some positions. Passes of other kinds are never under autocast."""
