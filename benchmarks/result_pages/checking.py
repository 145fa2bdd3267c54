"""Experiments run once more in a folder of their own, and compared with their committed rows."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd

from fkal.errors import MissingRuns
from fkal.notify import Display
from fkal.results.checkpoint import Checkpoint
from fkal.results.outcome import Outcome
from result_pages.cells import areas
from result_pages.computing import outcomes
from result_pages.grids import Job
from result_pages.rows import COUNTS, Pages, as_written, cpu_model, measured_in

POINT = 1.0
STANDARD_ERRORS = 3
ACCURACY = "test/accuracy"


class Pair(NamedTuple):
    """The committed rows of an experiment and those of running it now; whether CPU and torch are the same.

    `scatter` is the standard deviation of the area over all committed seeds of its method, in points.
    """

    job: Job
    then: pd.DataFrame
    now: pd.DataFrame
    is_same_machine: bool
    scatter: float


class Difference(NamedTuple):
    """A figure that is not what the rows say. `round` is empty where it is a mean over the budget."""

    experiment: str
    round: str
    figure: str
    committed: str
    now: str


class Mean(NamedTuple):
    """Areas under the curve of one method, in points, and how far apart the two may be."""

    experiment: str
    committed: float
    now: float
    allowed: float

    @property
    def holds(self) -> bool:
        return abs(self.committed - self.now) <= self.allowed


def compared(jobs: Sequence[Job], pages: Pages, *, workers: int, display: Display) -> list[Pair]:
    """Runs the jobs. Raises MissingRuns where they have no rows, and whatever a run fails of."""
    page = jobs[0].grid.page
    committed, costs = pages.rows(page), pages.costs(page)
    absent = [job.title for job in jobs if of_job(committed, job).empty]
    if absent:
        raise MissingRuns(f"no rows of {', '.join(absent)}; `results.py run` measures them")
    pairs = []
    with TemporaryDirectory(prefix="fkal-check-") as folder:
        out = Path(folder)
        store = f"sqlite:///{out / 'mlflow.db'}"
        for job, result in outcomes(jobs, out=out, tracking=store, workers=workers, display=display):
            if not isinstance(result, Outcome):
                raise result
            now = measured_in(Checkpoint(out, result.fingerprint).path, job, cpu_model())
            made = of_job(costs, job).iloc[0]
            same = (made.cpu, made.torch) == (now.cpu, now.torch)
            pairs.append(Pair(job, of_job(committed, job), now.rows(), same, scatter(committed, job)))
    return pairs


def scatter(committed: pd.DataFrame, job: Job) -> float:
    """How far apart the seeds of the job's method are, in points; 0 where there is one."""
    of_method = committed[(committed.grid == job.grid.name) & (committed.method == job.method)]
    found = areas(of_method, ACCURACY)
    return float(found.std()) if len(found) > 1 else 0.0


def differences(pairs: Sequence[Pair]) -> list[Difference]:
    """Each digit that differs where CPU and torch are the same; elsewhere each mean that is too far off."""
    digits = [each for pair in pairs if pair.is_same_machine for each in other_digits(pair)]
    means = [
        Difference(mean.experiment, "", "AUBC", f"{mean.committed:.2f}", f"{mean.now:.2f}")
        for mean in means_elsewhere(pairs)
        if not mean.holds
    ]
    return digits + means


def means_elsewhere(pairs: Sequence[Pair]) -> list[Mean]:
    """The mean area of each method over its seeds that another processor or torch measured.

    Two processors round differently, and training magnifies that until the same seed ends as a new one would. So two
    means over n seeds may be off by a point or, where that is more, by three standard errors of their difference.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        if not pair.is_same_machine:
            groups.setdefault(pair.job.method, []).append(pair)
    return [_mean(group) for group in groups.values()]


def _mean(pairs: Sequence[Pair]) -> Mean:
    job, n = pairs[0].job, len(pairs)
    seeds = ", ".join(f"s{pair.job.seed}" for pair in pairs)
    then, now = (pd.concat([areas(frame, ACCURACY) for frame in frames]).mean() for frames in _sides(pairs))
    allowed = max(POINT, STANDARD_ERRORS * pairs[0].scatter * sqrt(2 / n))
    return Mean(f"{job.grid.name} {job.method} {seeds}", then, now, allowed)


def other_digits(pair: Pair) -> list[Difference]:
    """Figures of rounds that are not written as they were, and the fingerprint."""
    then, now = (_texts(frame) for frame in (pair.then, pair.now))
    title = pair.job.title
    if len(then) != len(now):
        return [Difference(title, "", "rounds", str(len(then)), str(len(now)))]
    columns = ["fingerprint", *COUNTS, *pair.job.grid.columns]
    return [
        Difference(title, str(now.b[place]), name, then[name][place], now[name][place])
        for name in columns
        for place in range(len(now))
        if then[name][place] != now[name][place]
    ]


def report(pairs: Sequence[Pair], found: Sequence[Difference]) -> list[str]:
    """Lines for people: what was compared, the means of another processor, and a table of differences."""
    same = sum(pair.is_same_machine for pair in pairs)
    lines = [f"{len(pairs)} experiments compared: {same} to the digit, {len(pairs) - same} by their means"]
    lines += [
        f"{mean.experiment}: area {mean.committed:.2f} by the rows, {mean.now:.2f} now, {mean.allowed:.2f} are allowed"
        for mean in means_elsewhere(pairs)
    ]
    if not found:
        return [*lines, "the rows hold"]
    table = pd.DataFrame(found, columns=Difference._fields)
    return [*lines, table.to_string(index=False)]


def _sides(pairs: Sequence[Pair]) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    return [pair.then for pair in pairs], [pair.now for pair in pairs]


def _texts(rows: pd.DataFrame) -> pd.DataFrame:
    return as_written(rows).astype(str).reset_index(drop=True)


def of_job(table: pd.DataFrame, job: Job) -> pd.DataFrame:
    """The rows of this experiment."""
    grid, method, seed = job.key
    return table[(table.grid == grid) & (table.method == method) & (table.seed == seed)]
