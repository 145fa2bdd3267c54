"""An experiment run again from its own record, and held against it, round by round."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fkal.config.machine import config_here
from fkal.config.schema import ConfigError
from fkal.data.settings import EMBEDDINGS
from fkal.engine.rounds import Round
from fkal.experiment.backbone import as_embeddings
from fkal.experiment.experiment import Experiment, prepare
from fkal.notify import Notify, ShownBy, Unseen
from fkal.results.run_summary import RoundSummary, RunSummary


class RoundComparison(NamedTuple):
    """One round as it was and as it is now: picks in common, of how many, and metrics that differ."""

    b: int
    same_picks: int
    picks: int
    same_order: bool
    differing: dict[str, tuple[float | None, float | None]]

    @property
    def is_equal(self) -> bool:
        return self.same_order and not self.differing


def reproduced(
    one: RunSummary, data_root: Path | None, say: Notify, shown_by: ShownBy = Unseen
) -> Iterator[RoundComparison]:
    """Run the experiment again and compare each round as it ends.

    Nothing of the first run is read but its record: splits, weights, embeddings and descriptors are made again in a
    folder that is removed. Nothing is tracked.

    Args:
        one: The record.
        data_root: Where the images are now; None: where the environment says, else where they were.
        say: Called with each message for people.
        shown_by: Shows the progress.

    Yields:
        A comparison for each round of the record.

    Raises:
        ConfigError: The images or the split are not those of the record.
        MissingData: The images are not there.
    """
    with TemporaryDirectory(prefix="fkal-reproduce-") as folder:
        experiment = _prepared(one, data_root, Path(folder), say)
        recorded = {each.b: each for each in one.rounds}
        with shown_by(experiment.shown_name, iterations=len(recorded), done=0) as bars:
            for event in experiment.events():
                if not isinstance(event, Round):
                    bars.show(event)
                    continue
                bars.advance()
                yield compared(recorded[event.b], event)
                if event.b == max(recorded):
                    return


def _prepared(one: RunSummary, data_root: Path | None, out: Path, say: Notify) -> Experiment:
    config = config_here(one.config, "record", data_root)
    experiment = prepare(as_embeddings(config) if config.data.name == EMBEDDINGS else config, out, say)
    if one.data_digest and experiment.split.data_digest != one.data_digest:
        raise ConfigError(
            f"the images have the digest {experiment.split.data_digest}, and had {one.data_digest} when "
            f"{one.shown_name} ran; name the folder of those images by --data-root"
        )
    if experiment.split.digest != one.split_digest:
        raise ConfigError(
            f"the split has the digest {experiment.split.digest}, and had {one.split_digest} when {one.shown_name} ran"
        )
    if experiment.fingerprint != one.fingerprint:
        say(
            f"the fingerprint is {experiment.fingerprint}, and was {one.fingerprint}: another version of the method, "
            "other threads or another device; results may differ"
        )
    return experiment


def compared(before: RoundSummary, now: Round) -> RoundComparison:
    """One round against its record."""
    picks = now.selection.indices.tolist()
    names = sorted({*before.metrics, *now.metrics})
    pairs = {name: (before.metrics.get(name), now.metrics.get(name)) for name in names}
    return RoundComparison(
        b=now.b,
        same_picks=len(set(picks) & set(before.indices)),
        picks=len(before.indices),
        same_order=picks == list(before.indices),
        differing={name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
    )
