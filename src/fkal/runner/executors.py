"""`fkal run --jobs N`: experiments side by side, each in one of N worker processes."""

import multiprocessing
import pickle
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from fkal.config.schema import Config
from fkal.notify import PLAIN, Display, ManyShown, Notify
from fkal.results.outcome import Outcome
from fkal.runner import worker
from fkal.runner.worker import GRACE_SECONDS, Report

POLL_SECONDS = 0.1


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
    so that they close their runs and leave a state that can be gone on from.
    """
    context = multiprocessing.get_context("spawn")
    reports: SimpleQueue[Report] = context.SimpleQueue()
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=worker.begin, initargs=(reports, torch.get_num_threads())
    )
    with display.many(len(configs)) as bars:
        tell = listener(bars, display.notify)
        try:
            places = {pool.submit(worker.work, configs[place], out, tracking, wait): place for place in order}
            pending = set(places)
            while pending:
                done, pending = futures.wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                _drain(reports, tell)
                for future in done:
                    bars.ended()
                    yield places[future], _result(future)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            _end([child for child in multiprocessing.active_children() if child not in others], reports)


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
    except BrokenProcessPool:
        return RuntimeError("a worker process was killed, perhaps for want of memory; fewer --jobs need less")
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


def _drain(reports: "SimpleQueue[Report]", tell: Callable[[Report], None]) -> None:
    while not reports.empty():
        tell(reports.get())


def _end(workers: Sequence[BaseProcess], reports: "SimpleQueue[Report]") -> None:
    """One that is idle ends at once, one at work closes its run first; after the time of grace none is left.

    Each is asked again and again: one that was about to become idle would wait for someone to take its result.

    What they still report is read, since a full pipe would stop them, and not told any more.
    """
    last = time.monotonic() + GRACE_SECONDS
    try:
        while any(process.is_alive() for process in workers) and time.monotonic() < last:
            for process in workers:
                process.terminate()
            _drain(reports, lambda _: None)
            time.sleep(POLL_SECONDS / 2)
    finally:
        for process in workers:
            process.kill()
            process.join()
