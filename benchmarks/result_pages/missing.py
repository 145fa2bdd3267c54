"""Which experiments of the grids have no row of today, and what computing them takes."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from fkal.config.method_spec import long_method_name
from fkal.data.errors import MissingData
from fkal.errors import ConfigError, MissingWeights, did_you_mean
from fkal.experiment.experiment import prepare
from fkal.notify import Notify
from result_pages.grids import Grid, Job, Machine, jobs_of
from result_pages.rows import Pages


class Missing(NamedTuple):
    """A job without rows of today, and what it takes; `is_stale` if its rows are of an earlier fingerprint."""

    job: Job
    is_stale: bool
    seconds: float


def chosen_jobs(
    grids: Sequence[Grid], machine: Machine, methods: str | None = None, seeds: Sequence[int] | None = None
) -> list[Job]:
    """The jobs of these methods and seeds, all where none are named; first tiers of all grids, then second ones.

    Raises ConfigError for a method that no grid has.
    """
    named = None if methods is None else {long_method_name(method.strip()) for method in methods.split(",")}
    every = [job for grid in grids for job in jobs_of(grid, machine)]
    known = sorted({job.method for job in every})
    if unknown := sorted((named or set()) - set(known)):
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(f"--methods {', '.join(unknown)}: no chosen grid has it; {hint}results.yaml lists them")
    kept = [
        job for job in every if (named is None or job.method in named) and (seeds is None or job.config.seed in seeds)
    ]
    return sorted(kept, key=lambda job: job.tier)


def missing(jobs: Sequence[Job], pages: Pages, out: Path, notify: Notify) -> list[Missing]:
    """The jobs whose committed rows are not those of today's fingerprint, in their order.

    Where images or weights are not here fingerprints are unknown, and the recipe decides.
    """
    names = {job.grid.page for job in jobs}
    recorded = {key: found for name in names for key, found in pages.recorded(name).items()}
    took = _measured_seconds(names, pages)
    unseen: set[str] = set()
    found = []
    for job in jobs:
        known = recorded.get(job.key)
        if known is None or known.recipe != job.recipe or not _is_today(job, known.fingerprint, out, unseen, notify):
            seconds = median(took.get((job.grid.name, job.method), [job.grid.tiers[job.tier].seconds]))
            found.append(Missing(job, known is not None, seconds))
    return found


def _is_today(job: Job, recorded: str, out: Path, unseen: set[str], notify: Notify) -> bool:
    """Whether the fingerprint is today's; True in the grids of `unseen`, whose images or weights are not here."""
    if job.grid.name in unseen:
        return True
    try:
        return prepare(job.config, out, notify, looks_only=True).fingerprint == recorded
    except (MissingData, MissingWeights) as error:
        notify(f"{job.grid.name}: fingerprints are unknown here, so settings and versions decide: {error}")
        unseen.add(job.grid.name)
        return True


def _measured_seconds(names: set[str], pages: Pages) -> dict[tuple[str, str], list[float]]:
    """By grid and method, of all seeds that were measured."""
    found: dict[tuple[str, str], list[float]] = {}
    for name in names:
        for grid, method, seconds in pages.costs(name)[["grid", "method", "seconds"]].itertuples(index=False):
            found.setdefault((grid, method), []).append(float(seconds))
    return found
