"""Computing what is missing of the grids. Each finished experiment is put into the committed rows at once."""

import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from fkal.errors import SomeFailed, ends_all
from fkal.experiment.experiment import prepare
from fkal.notify import Display, Notify
from fkal.redaction import redacted
from fkal.results.checkpoint import Checkpoint
from fkal.results.outcome import Outcome
from fkal.runner.executors import side_by_side
from fkal.runner.out_folder import refuse_unusable
from fkal.runner.single import run_one
from fkal.tracking.store import prepare_store, tracking_uri
from result_pages.grids import Job
from result_pages.rows import Measured, Pages, cpu_model, measured_in

Ended = Generator[tuple[int, Outcome | Exception], None, None]
"""Places of jobs as they end, and their outcome or why they failed."""


class TimeUp(KeyboardInterrupt):
    """The minutes that were given are over; what is finished is kept, as after Ctrl-C."""


def compute(
    jobs: Sequence[Job], pages: Pages, *, out: Path, tracking: str | None, workers: int, display: Display
) -> None:
    """Run the jobs in their order and add the rows of each as it ends. Raises SomeFailed for those that failed."""
    failures = []
    for job, result in outcomes(jobs, out=out, tracking=tracking, workers=workers, display=display):
        if isinstance(result, Outcome):
            pages.add([measured_in(Checkpoint(out, result.fingerprint).path, job, cpu_model())], out)
            display.notify(f"{job.title}: its rows are in {pages.folder(job.grid.page)}")
        else:
            failures.append(f"{job.title}: {redacted(str(result))}")
            display.notify(f"failed: {failures[-1]}")
    if failures:
        raise SomeFailed(f"{len(failures)} of {len(jobs)} experiments failed:\n" + "\n".join(failures))


def outcomes(
    jobs: Sequence[Job], *, out: Path, tracking: str | None, workers: int, display: Display
) -> Iterator[tuple[Job, Outcome | Exception]]:
    """Jobs as they end. Raises what would fail all of them, such as a full disk."""
    refuse_unusable(out)
    prepare_store(tracking_uri(tracking, Path.cwd()), display.notify)
    workers = min(workers, len(jobs))
    configs = [job.config for job in jobs]
    ended: Ended = (
        side_by_side(configs, range(len(jobs)), jobs=workers, out=out, tracking=tracking, display=display)
        if workers > 1
        else _in_turn(jobs, out, tracking, display)
    )
    with closing(ended):
        for place, result in ended:
            if isinstance(result, Exception) and ends_all(result):
                raise result
            yield jobs[place], result


def _in_turn(jobs: Sequence[Job], out: Path, tracking: str | None, display: Display) -> Ended:
    for place, job in enumerate(jobs):
        result: Outcome | Exception
        try:
            result = run_one(prepare(job.config, out, display.notify), out, tracking, shown_by=display.one)
        except Exception as error:
            result = error
        yield place, result


def take(jobs: Sequence[Job], pages: Pages, *, state: Path, cpu: str, out: Path, notify: Notify) -> int:
    """Add the rows of jobs that are finished in another `state` folder; returns of how many.

    Their fingerprint must be today's. Nothing is written there.
    """
    taken: dict[str, list[Measured]] = {}
    for job in jobs:
        folder = state / prepare(job.config, out, notify, looks_only=True).fingerprint
        if folder.is_dir() and Checkpoint(state.parent, folder.name).is_finished:
            taken.setdefault(job.grid.page, []).append(measured_in(folder, job, cpu))
    for found in taken.values():
        pages.add(found, out)
    return sum(map(len, taken.values()))


@contextmanager
def for_minutes(minutes: float | None) -> Iterator[None]:
    """Raises TimeUp in the block once so many minutes are over, as Ctrl-C would interrupt it."""
    if minutes is None:
        yield
        return
    over = threading.Event()

    def end() -> None:
        over.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(60 * minutes, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if over.is_set() and type(error) is KeyboardInterrupt:  # a subclass is another signal's
            raise TimeUp from None
        raise
    finally:
        timer.cancel()
