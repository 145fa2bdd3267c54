"""One run by several processes of this machine, which `torchrun` has started: who joins it and who leads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from fkal.config.schema import Config
from fkal.engine.processes import Processes, current_processes
from fkal.engine.rounds import Round
from fkal.errors import ConfigError, ProcessLost
from fkal.experiment.experiment import Experiment, prepare
from fkal.launch import launch
from fkal.notify import Notify

PATIENCE = timedelta(days=7)
"""Before an exchange is given up: the first process may select or wait for another run meanwhile. One that ends is
noticed at once."""


class SharedWork(NamedTuple):
    """An experiment that all processes run, and the rounds that are done already, of which the last one has weights."""

    config: Config
    fingerprint: str
    finished: list[Round]


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes of this run, joined for as long as the block lasts; alone without torchrun.

    After an error they are not parted in order, which could wait for one that is gone.
    """
    started = launch()
    if started.processes == 1:
        yield current_processes()
        return
    if started.processes != started.local_processes:
        raise ConfigError(
            f"torchrun started {started.processes} processes, {started.local_processes} of them on this machine; "
            "fkal trains on one machine: set --nnodes 1, and bring machines together by fkal run --shard"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(started.local_rank % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield current_processes()
    dist.destroy_process_group()


def notify_of_whole_batches(configs: Sequence[Config], notify: Notify) -> None:
    """Parts of a batch are a part of an experiment, so they are not changed in silence."""
    count = current_processes().count
    given = {config.batch_parts for config in configs if not config.is_frozen} - {count}
    if count > 1 and given:
        parts = sorted(given - {1})
        unfit = f"batch_parts = {', '.join(map(str, parts))} is not the number of processes: " if parts else ""
        notify(
            f"{unfit}each of the {count} processes trains on whole batches, so picks are those of one process; "
            f"--set batch_parts={count} shares each batch among them, but is another experiment: "
            "sums in another order differ in their last digits"
        )


def shared_work(experiment: Experiment, finished: Sequence[Round]) -> SharedWork | None:
    """What the other processes need of an experiment; None where there are no others."""
    if current_processes().count == 1:
        return None
    light = [replace(each, weights={}) for each in finished[:-1]]
    return SharedWork(experiment.config, experiment.fingerprint, [*light, *finished[-1:]])


def follow(out: Path) -> None:
    """What another process than the first one does: its part of each experiment, until there are no more."""
    while (work := current_processes().from_first(None)) is not None:
        assert isinstance(work, SharedWork)
        experiment = prepare(work.config, out, _unsaid, looks_only=True)
        if experiment.fingerprint != work.fingerprint:
            raise ProcessLost(
                f"{experiment.name}: this process sees other data, weights or threads than the first one "
                f"(fingerprint {experiment.fingerprint[:8]}, not {work.fingerprint[:8]}); give the same command again"
            )
        for _ in experiment.events(work.finished):
            pass


def _unsaid(_message: str) -> None:
    """The first process has said it."""
