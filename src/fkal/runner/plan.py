"""What a call of `run` is going to do, as far as that is known without torch."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fkal.config.schema import Config, ConfigError
from fkal.errors import shortened
from fkal.experiment.names import shown_name
from fkal.experiment.plan_memory import PlanMemory
from fkal.folders import below
from fkal.notify import Notify
from fkal.paths import DIGESTS
from fkal.runner.out_folder import refuse_no_folder
from fkal.tracking.store import tracking_uri

MOST_JOBS = 1024
MOST_GPUS = 1024
ADDRESS = re.compile(r"([\w.-]{1,253}|\[[0-9a-fA-F:]{2,39}\]):([0-9]{1,5})", re.ASCII)
LARGEST_PORT = 65_535
PLANS = f"{DIGESTS}/plans"
"""Below --out: what was found of experiments before their work."""


class PlannedRun(NamedTuple):
    """An experiment that was checked, without its data and model."""

    config: Config
    fingerprint: str | None
    """None: unknown until the images and weights are here."""
    rounds: int
    budget: int
    pretrained: Path | None = None
    notes: tuple[str, ...] = ()
    """What is to be said of its data."""


class RayCluster(NamedTuple):
    """Where `--executor ray` runs experiments."""

    address: str | None = None
    """`host:port`, or `auto`: the cluster that this machine belongs to. None: Ray starts here, for this call."""
    gpus_per_run: float | None = None
    """None: one GPU for an experiment that computes on CUDA, none for another."""


def plan_memory(out: Path) -> PlanMemory:
    """What earlier runs found."""
    return PlanMemory(below(out, PLANS))


def remembered_runs(
    configs: Sequence[Config],
    *,
    out: Path,
    tracking: str | None,
    jobs: int,
    cluster: RayCluster | None = None,
    notify: Notify,
) -> list[PlannedRun] | None:
    """What `run` does, from what earlier runs found; nothing is read or written but what they remembered.

    None where one of the experiments, its images or this machine is new. Raises ConfigError or StoreError for options
    that cannot be.
    """
    refuse_wrong_options(tracking, jobs, cluster)
    refuse_no_folder(out)
    memory, planned = plan_memory(out), list[PlannedRun]()
    for config in configs:
        known = memory.of(config)
        if known is None:
            return None
        planned.append(
            PlannedRun(config, known.fingerprint, rounds=known.rounds, budget=known.budget, notes=known.notes)
        )
    for note in dict.fromkeys(note for plan in planned for note in plan.notes):
        notify(note)
    return each_once(planned, notify)


def refuse_wrong_options(tracking: str | None, jobs: int, cluster: RayCluster | None = None) -> None:
    """Raises ConfigError or StoreError."""
    if not 1 <= jobs <= MOST_JOBS:
        raise ConfigError(f"--jobs {jobs}: give 1 to {MOST_JOBS} experiments to be at work at once")
    if cluster is not None:
        refuse_wrong_cluster(cluster, jobs)
    tracking_uri(tracking, Path.cwd())


def refuse_wrong_cluster(cluster: RayCluster, jobs: int = 1) -> None:
    """Raises ConfigError for an address or a share of GPUs that cannot be."""
    address, gpus = cluster
    if address is not None and jobs > 1:
        raise ConfigError(
            f"--jobs {jobs}: the CPUs and GPUs of the cluster {address} say how many run at once; leave it out"
        )
    if address is not None and "://" in address:
        raise ConfigError(
            f"--ray-address {shortened(address)}: give HOST:PORT without {address.partition('://')[0]}://, or auto, on "
            "a machine of the cluster"
        )
    if address is not None and address != "auto" and not _is_address(address):
        raise ConfigError(f"--ray-address {shortened(address)}: give HOST:PORT, say 10.0.0.5:6379, or auto")
    if gpus is not None and not (0 <= gpus <= 1 or (1 < gpus <= MOST_GPUS and math.floor(gpus) == gpus)):
        raise ConfigError(
            f"--gpus-per-run {gpus}: give a part of one GPU, say 0.25, or a whole number up to {MOST_GPUS}"
        )


def _is_address(text: str) -> bool:
    found = ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found[2]) <= LARGEST_PORT


def each_once(plans: Iterable[PlannedRun], notify: Notify) -> list[PlannedRun]:
    """Since `pfk` and `pfk_joint` may mean the same experiment."""
    known: dict[str, PlannedRun] = {}
    for plan in plans:
        key = plan.fingerprint or plan.config.digest
        if key in known:
            notify(f"{shown_name(plan.config)}: named twice, run once")
        known.setdefault(key, plan)
    return list(known.values())
