"""Progress on standard error: bars on a terminal, a line per round where there is none."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from fkal.cli.terminal import console, say
from fkal.escaping import printable
from fkal.notify import PLAIN, Display, Step

SECONDS_A_LINE = 30.0
"""Between two lines of one phase."""


class Bars:
    """Two bars while the `with` block lasts: rounds, and the phase at work."""

    def __init__(self, name: str, *, iterations: int | None = None, done: int = 0) -> None:
        self._bars = _bars()
        self._iterations = (
            None
            if iterations is None
            else self._bars.add_task(printable(name), total=iterations, completed=done, unit="rounds")
        )
        self._phase = self._bars.add_task(printable(name), total=None, unit="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, progress: Step) -> None:
        self._bars.update(
            self._phase,
            description=printable(progress.phase),
            completed=progress.done,
            total=progress.total,
            unit=progress.unit,
        )

    def advance(self) -> None:
        """One more round is finished."""
        if self._iterations is not None:
            self._bars.advance(self._iterations)


class ManyBars:
    """While the `with` block lasts: a bar for each experiment at work, and one for all of them."""

    def __init__(self, experiments: int) -> None:
        self._bars = _bars()
        self._all = self._bars.add_task("all", total=experiments, unit="experiments")
        self._each: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def began(self, worker: int, name: str, iterations: int, done: int) -> None:
        """A worker process has taken up an experiment; it has one at a time."""
        self._each[worker] = self._bars.add_task(printable(name), total=iterations, completed=done, unit="rounds")

    def show(self, worker: int, phase: str) -> None:
        self._bars.update(self._each[worker], unit=f"rounds, {printable(phase)}")

    def advance(self, worker: int) -> None:
        """One more round is finished."""
        self._bars.advance(self._each[worker])

    def left(self, worker: int) -> None:
        """The worker is done with its experiment, or the experiment failed."""
        self._bars.remove_task(self._each.pop(worker))

    def ended(self) -> None:
        """One more experiment needs nothing more."""
        self._bars.advance(self._all)


def _bars() -> RichProgress:
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(err=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


class Lines:
    """A line per finished round, with the time that the other rounds will take if they take as long."""

    def __init__(
        self,
        name: str,
        *,
        iterations: int | None = None,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total, self._done = name, iterations, done
        self._clock = clock
        self._before = done
        self._began = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, progress: Step) -> None:
        """Phases are too many for lines."""

    def advance(self) -> None:
        """One more round is finished."""
        self._done += 1
        if self._total is None:
            return
        per_round = (self._clock() - self._began) / (self._done - self._before)
        left = per_round * (self._total - self._done)
        say(f"{self._name}: round {self._done} of {self._total}, {'done' if left <= 0 else f'{duration(left)} left'}")


class PhaseLines:
    """A line every half minute, of whatever phase is at work, for long work without rounds."""

    def __init__(
        self,
        name: str,
        *,
        iterations: int | None = None,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._clock = clock
        self._phase, self._first = "", 0
        self._began = self._said = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, progress: Step) -> None:
        now = self._clock()
        if progress.phase != self._phase:
            self._phase, self._first, self._began = progress.phase, progress.done, now
        if now - self._said < SECONDS_A_LINE or progress.done >= progress.total:
            return
        self._said = now
        rate = (progress.done - self._first) / (now - self._began) if now > self._began else 0.0
        left = f", {duration((progress.total - progress.done) / rate)} left" if rate else ""
        say(f"{progress.phase}: {progress.done:,} of {progress.total:,} {progress.unit}{left}")

    def advance(self) -> None:
        """Nothing has rounds here."""


class ManyLines:
    """The lines of several workers, and one for each experiment that ends."""

    def __init__(self, experiments: int) -> None:
        self._experiments, self._ended = experiments, 0
        self._each: dict[int, Lines] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def began(self, worker: int, name: str, iterations: int, done: int) -> None:
        self._each[worker] = Lines(name, iterations=iterations, done=done)

    def show(self, worker: int, phase: str) -> None:
        """Phases are too many for lines."""

    def advance(self, worker: int) -> None:
        self._each[worker].advance()

    def left(self, worker: int) -> None:
        del self._each[worker]

    def ended(self) -> None:
        self._ended += 1
        say(f"{self._ended} of {self._experiments} experiments have ended")


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h 05 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


TERMINAL = Display(say, Bars, ManyBars)
"""What the command line passes to the rooms below it."""


def phase_display(*, as_json: bool = False) -> Display:
    """What commands on own pools pass: bars on a terminal, else a line every half minute; neither under --json."""
    if as_json:
        return PLAIN._replace(notify=say)
    return TERMINAL if sys.stderr.isatty() else Display(say, PhaseLines, ManyLines)


def round_display(*, as_json: bool) -> Display:
    """What `fkal run` passes: lines instead of bars where nobody watches a terminal, and neither under --json."""
    return TERMINAL if as_json or sys.stderr.isatty() else Display(say, Lines, ManyLines)
