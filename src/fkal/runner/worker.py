"""A worker process of `fkal run --jobs`: runs experiments, and reports to the process that has the terminal."""

import multiprocessing
import os
import pickle
import signal
import time
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from types import FrameType, TracebackType
from typing import Any, NamedTuple, Self

import torch

from fkal.config.schema import Config
from fkal.experiment.names import shown_name
from fkal.notify import Step

INTERRUPTED = 130
"""Exit code of a worker that was asked to end."""
GRACE_SECONDS = 10.0
"""What a worker that is asked to end has for closing its run and state."""
SHOWN_SECONDS = 0.2


class Report(NamedTuple):
    """`said`, `began`, `show`, `advance` or `left`, of which worker and with what."""

    worker: int
    what: str
    values: tuple[Any, ...]


_reports: "SimpleQueue[Report]"


def begin(reports: "SimpleQueue[Report]", threads: int) -> None:
    """Called once in each new worker; `threads` are those that experiments get that do not say how many.

    An interrupt from the keyboard and the end of the terminal reach the parent, which ends its workers. One whose
    parent is gone ends itself.
    """
    global _reports
    _reports = reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def work(config: Config, out: Path, tracking: str | None, wait: bool) -> bytes:
    """The pickled Outcome; as bytes, since tensors would else travel as one open file each."""
    from fkal.experiment.experiment import prepare
    from fkal.runner.single import run_one

    name = shown_name(config)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        experiment = prepare(config, out, partial(_report, "said", name))
        return pickle.dumps(run_one(experiment, out, tracking, wait=wait, shown_by=Reported))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # run and state are closed; the pool would go on with the next experiment
    except Exception as error:
        if _can_travel(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Reported:
    """The progress of one experiment, as reports."""

    def __init__(self, name: str, *, iterations: int | None = None, done: int = 0) -> None:
        self._start = (name, iterations, done)
        self._shown = 0.0

    def __enter__(self) -> Self:
        _report("began", *self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _report("left")

    def show(self, progress: Step) -> None:
        """Not each time: a terminal cannot be read that fast."""
        now = time.monotonic()
        if now - self._shown >= SHOWN_SECONDS:
            self._shown = now
            _report("show", f"{progress.phase} {progress.done}/{progress.total} {progress.unit}")

    def advance(self) -> None:
        _report("advance")


def _report(what: str, *values: Any) -> None:
    _reports.put(Report(os.getpid(), what, values))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(INTERRUPTED)


def _can_travel(error: Exception) -> bool:
    """Whether the parent can be given the error as it is."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever a foreign class raises
        return False
