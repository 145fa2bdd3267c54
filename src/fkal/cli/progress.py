"""Progress bars on a terminal, on standard error; nothing where there is none."""

import sys
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
from fkal.notify import Display, Step


class Bars:
    """Two bars while the `with` block lasts: iterations, and the phase at work."""

    def __init__(self, name: str, *, iterations: int | None = None, done: int = 0) -> None:
        self._bars = _bars()
        self._iterations = (
            None
            if iterations is None
            else self._bars.add_task(printable(name), total=iterations, completed=done, unit="iterations")
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
        """One more iteration is finished."""
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
        self._each[worker] = self._bars.add_task(printable(name), total=iterations, completed=done, unit="iterations")

    def show(self, worker: int, phase: str) -> None:
        self._bars.update(self._each[worker], unit=f"iterations, {printable(phase)}")

    def advance(self, worker: int) -> None:
        """One more iteration is finished."""
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


TERMINAL = Display(say, Bars, ManyBars)
"""What the command line passes to the rooms below it."""
