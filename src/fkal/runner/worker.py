"""A worker process of `fkal run`: runs experiments, and reports to the process that has the terminal."""

import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from threading import Thread
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch

from fkal.config.schema import Config
from fkal.core.pool_parts import MapParts, one_by_one
from fkal.experiment.names import shown_name
from fkal.interrupts import none_lost
from fkal.notify import Step

if TYPE_CHECKING:
    from fkal.experiment.experiment import Experiment

Handler = Callable[[int, FrameType | None], Any] | int | None
"""What a signal calls, or whether it is ignored."""
INTERRUPTED = 130
"""Exit code of a worker that was asked to end."""
GRACE_SECONDS = 10.0
"""What a worker that is asked to end has for closing its run and state."""
SHOWN_SECONDS = 0.2


class Report(NamedTuple):
    """`took`, `said`, `began`, `show`, `advance` or `left`, of which worker and with what."""

    worker: int
    what: str
    values: tuple[Any, ...]


class Reports(Protocol):
    """Where reports go."""

    def put(self, report: Report, /) -> None: ...


_reports: Reports
_worker: int


def report_to(reports: Reports, worker: int) -> None:
    """From now on this process reports there, as the worker of this number."""
    global _reports, _worker
    _reports, _worker = reports, worker


def begin(reports: "SimpleQueue[Report]", threads: int) -> None:
    """Called once in each new worker of `--jobs`; `threads` are those that experiments get that do not say how many.

    An interrupt from the keyboard and the end of the terminal reach the parent, which ends its workers. One whose
    parent is gone ends itself.
    """
    report_to(reports, os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    take_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def take_threads(threads: int) -> None:
    """Of experiments that do not say how many. The parent's number, since sums depend on it."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def take(place: int, config: Config, out: Path, tracking: str | None, wait: bool) -> bytes:
    """`work`, reported first, so that the parent knows which experiment dies with this process."""
    _report("took", place)
    return work(config, out, tracking, wait)


def work(
    config: Config,
    out: Path,
    tracking: str | None,
    wait: bool,
    *,
    fingerprint: str | None = None,
    over_parts: MapParts = one_by_one,
) -> bytes:
    """The pickled Outcome; as bytes, since tensors would else travel as one open file each.

    With `fingerprint` an experiment that has another one here is refused. `over_parts` goes through the parts of a
    choice.
    """
    from fkal.experiment.experiment import prepare
    from fkal.runner.single import run_one

    name = shown_name(config)
    before = _call_when_asked_to_end(_interrupt)
    try:
        with none_lost(_armed):
            experiment = prepare(config, out, partial(_report, "said", name))
            if fingerprint is not None and experiment.fingerprint != fingerprint:
                raise _other_experiment(experiment)
            experiment = replace(experiment, over_parts=over_parts)
            return pickle.dumps(run_one(experiment, out, tracking, wait=wait, shown_by=Reported))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # run and state are closed; the pool would go on with the next experiment
    except Exception as error:
        raise portable(error) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _other_experiment(experiment: "Experiment") -> ValueError:
    return ValueError(
        f"{socket.gethostname()} would run another experiment than the command's machine, on "
        f"{experiment.device.type} with {len(experiment.split.pool):,} pool images; the images, the type of "
        "device (--set device=cpu or cuda) and the version of fkal must be the same on all machines"
    )


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
    _reports.put(Report(_worker, what, values))


def _call_when_asked_to_end(handler: Handler) -> dict[signal.Signals, Handler]:
    """By SIGTERM, or by the SIGINT that Ray sends; a worker of `--jobs` ignores the latter. Returns those of before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if before[signal.SIGINT] == signal.SIG_IGN:
        del before[signal.SIGINT]
    for number in before:
        signal.signal(number, handler)
    return before


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Once: whoever asks again does not break off what is being closed."""
    _call_when_asked_to_end(signal.SIG_IGN)
    raise KeyboardInterrupt


def _armed(_error: KeyboardInterrupt) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    return signal.SIGTERM


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(INTERRUPTED)


def portable(error: Exception) -> Exception:
    """The error, or one of the same words where the parent cannot be given it as it is."""
    return error if _can_travel(error) else RuntimeError(f"{type(error).__name__}: {error}")


def _can_travel(error: Exception) -> bool:
    """Whether the parent can be given the error as it is."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever a foreign class raises
        return False
