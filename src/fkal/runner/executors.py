"""`fkal run --jobs N`: experiments side by side, each in one of N worker processes."""

import multiprocessing
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence, Set
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from fkal.config.schema import Config
from fkal.notify import PLAIN, Display, ManyShown, Notify
from fkal.results.outcome import Outcome
from fkal.runner import worker
from fkal.runner.worker import GRACE_SECONDS, INTERRUPTED, Report

POLL_SECONDS = 0.1
MOST_TRIES = 3
"""Times that an experiment is at work when worker processes die beside it, until it counts as failed, too."""
ASKED_TO_END = (0, INTERRUPTED, -signal.SIGTERM)
"""Exit codes of workers that did not die of themselves."""
KILLED = "a worker process was killed, perhaps for want of memory; fewer --jobs need less"


def side_by_side(
    configs: Sequence[Config],
    order: Sequence[int],
    *,
    jobs: int,
    out: Path,
    tracking: str | None,
    wait: bool = True,
    display: Display = PLAIN,
) -> Generator[tuple[int, Outcome | Exception], None, None]:
    """The experiments as they end: its place in `configs`, and its outcome or what it failed of.

    They are begun in `order`. However this generator ends, its workers end with it: asked to first,
    so that they close their runs and leave a state that can be gone on from. The experiment of a worker
    that dies has failed; the others go on in new workers, since a pool ends with the first of its own.
    """
    left, tries = list(order), Counter[int]()
    with display.many(len(configs)) as bars:
        tell = listener(bars, display.notify)
        while left:
            broken = set[int]()
            with _Pool(min(jobs, len(left)), tell) as pool:
                for place in left:
                    pool.submit(place, configs[place], out, tracking, wait)
                for place, result in pool.results():
                    if isinstance(result, BrokenProcessPool):
                        broken.add(place)
                        continue
                    bars.ended()
                    yield place, result
            failed = failed_of(broken, pool.at_work, pool.dead, tries)
            for place in failed:
                bars.ended()
                yield place, RuntimeError(KILLED)
            left = [place for place in left if place in broken - failed]
            if left:
                display.notify("a worker process was killed; the other experiments go on in new ones")


def failed_of(broken: Set[int], at_work: Mapping[int, int], dead: Set[int], tries: "Counter[int]") -> frozenset[int]:
    """Those of the experiments without a result that are not tried again; `tries` counts the others at work.

    `at_work` has what each worker took last, and `dead` are the workers that ended unasked. Where none of the
    experiments was at work, workers cannot even begin, so all have failed.
    """
    begun = {at: place for at, place in at_work.items() if place in broken}
    own = frozenset(place for at, place in begun.items() if at in dead)
    beside = set(begun.values()) - own
    tries.update(beside)
    return own | {place for place in beside if tries[place] >= MOST_TRIES} if begun else frozenset(broken)


class _Pool:
    """Worker processes, and what each is at. At the end of the `with` block they end, and `dead` is known."""

    def __init__(self, jobs: int, tell: Callable[[Report], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self.at_work: dict[int, int] = {}  # the place of the experiment that a worker took last
        self.dead: frozenset[int] = frozenset()  # workers that ended unasked
        self._tell, self._shown = tell, set[int]()
        self._places: dict[Future[bytes], int] = {}
        self._reports: SimpleQueue[Report] = context.SimpleQueue()
        self._others = multiprocessing.active_children()
        self._workers: set[BaseProcess] = set()
        self._executor = ProcessPoolExecutor(
            jobs, mp_context=context, initializer=worker.begin, initargs=(self._reports, torch.get_num_threads())
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._note_workers()
        stuck = _end(list(self._workers), self._reports)
        ended = self._workers.difference(stuck)
        self.dead = frozenset(each.pid for each in ended if each.pid and each.exitcode not in ASKED_TO_END)

    def submit(self, place: int, *work: Any) -> None:
        """Have it done by the next worker that is idle."""
        try:
            future = self._executor.submit(worker.take, place, *work)
        except BrokenProcessPool as error:  # a worker has died meanwhile
            future = Future()
            future.set_exception(error)
        self._places[future] = place

    def results(self) -> Generator[tuple[int, Outcome | Exception], None, None]:
        """As they come; BrokenProcessPool of each that has none since a worker died."""
        self._note_workers()
        pending = set(self._places)
        while pending:
            done, pending = futures.wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            self._hear()
            for future in done:
                yield self._places[future], _result(future)
        for each in self._shown:
            self._tell(Report(each, "left", ()))

    def _note_workers(self) -> None:
        """Those that have ended are not found later."""
        self._workers.update(child for child in multiprocessing.active_children() if child not in self._others)

    def _hear(self) -> None:
        while not self._reports.empty():
            report = self._reports.get()
            match report.what:
                case "took":
                    (self.at_work[report.worker],) = report.values
                    continue
                case "began":
                    self._shown.add(report.worker)
                case "left":
                    self._shown.discard(report.worker)
            self._tell(report)


def interleave(keys: Sequence[object]) -> list[int]:
    """Places in an order in which few of one key stand together: the first of each key, then the second of each."""
    seen: Counter[object] = Counter()
    turns = []
    for key in keys:
        turns.append(seen[key])
        seen[key] += 1
    return sorted(range(len(keys)), key=turns.__getitem__)


def _result(future: "Future[bytes]") -> Outcome | Exception:
    try:
        outcome: Outcome = pickle.loads(future.result())
        return outcome
    except Exception as error:
        return error


def listener(bars: ManyShown, notify: Notify) -> Callable[[Report], None]:
    """Shows the reports of workers."""
    told: Mapping[str, Callable[..., Any]] = {
        "said": lambda _, name, message: notify(message if message.startswith(name) else f"{name}: {message}"),
        "began": bars.began,
        "show": bars.show,
        "advance": bars.advance,
        "left": bars.left,
    }
    return lambda report: told[report.what](report.worker, *report.values)


def _end(workers: Sequence[BaseProcess], reports: "SimpleQueue[Report]") -> list[BaseProcess]:
    """Those that did not end until they were killed.

    One that is idle ends at once, one at work closes its run first; after the time of grace none is left.

    Each is asked again and again: one that was about to become idle would wait for someone to take its result.

    What they still report is read, since a full pipe would stop them, and not told any more.
    """
    last = time.monotonic() + GRACE_SECONDS
    try:
        while any(process.is_alive() for process in workers) and time.monotonic() < last:
            for process in workers:
                process.terminate()
            while not reports.empty():
                reports.get()
            time.sleep(POLL_SECONDS / 2)
    finally:
        stuck = [process for process in workers if process.is_alive()]
        for process in workers:
            process.kill()
            process.join()
    return stuck
