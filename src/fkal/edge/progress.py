"""Progress bars on a terminal, on standard error; nothing where there is none."""

import sys
from types import TracebackType
from typing import Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from fkal.engine.metering import Progress


def say(message: str) -> None:
    """One line on standard error."""
    typer.echo(message, err=True)


class Bars:
    """Two bars while the `with` block lasts: iterations, and the phase at work."""

    def __init__(self, name: str, *, iterations: int | None = None, done: int = 0) -> None:
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        self._iterations = (
            None
            if iterations is None
            else self._bars.add_task(name, total=iterations, completed=done, unit="iterations")
        )
        self._phase = self._bars.add_task(name, total=None, unit="")

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

    def show(self, progress: Progress) -> None:
        self._bars.update(
            self._phase,
            description=progress.phase,
            completed=progress.done,
            total=progress.total,
            unit=progress.unit,
        )

    def advance(self) -> None:
        """One more iteration is finished."""
        if self._iterations is not None:
            self._bars.advance(self._iterations)
