"""How the rooms below the terminal speak to whoever watches: lines, and the progress of work.

The command line passes its own `Display`. Without one, lines go to standard error and progress is not shown.
"""

import sys
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from fkal.escaping import printable
from fkal.redaction import redacted

Notify = Callable[[str], None]
"""Takes one line for people."""


class Step(Protocol):
    """How far a phase is: `done` of `total` units."""

    @property
    def phase(self) -> str: ...
    @property
    def done(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def unit(self) -> str: ...


class Shown(Protocol):
    """Where the progress of one piece of work is shown while the `with` block lasts."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, progress: Step) -> None: ...
    def advance(self) -> None: ...


class ShownBy(Protocol):
    """Makes the place where work of this name is shown; `iterations` is None for work without rounds."""

    def __call__(self, name: str, *, iterations: int | None = None, done: int = 0) -> Shown: ...


class ManyShown(Protocol):
    """Where the progress of several workers is shown while the `with` block lasts."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def began(self, worker: int, name: str, iterations: int, done: int) -> None: ...
    def show(self, worker: int, phase: str) -> None: ...
    def advance(self, worker: int) -> None: ...
    def left(self, worker: int) -> None: ...
    def ended(self) -> None: ...


class Unseen:
    """Shows the progress of one piece of work nowhere."""

    def __init__(self, name: str, *, iterations: int | None = None, done: int = 0) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, progress: Step) -> None: ...

    def advance(self) -> None: ...


class ManyUnseen:
    """Shows the progress of several workers nowhere."""

    def __init__(self, experiments: int) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def began(self, worker: int, name: str, iterations: int, done: int) -> None: ...

    def show(self, worker: int, phase: str) -> None: ...

    def advance(self, worker: int) -> None: ...

    def left(self, worker: int) -> None: ...

    def ended(self) -> None: ...


def on_standard_error(message: str) -> None:
    """One line, without secrets and without what acts on a terminal."""
    sys.stderr.write(f"{printable(redacted(message))}\n")
    sys.stderr.flush()


class Display(NamedTuple):
    """Where lines go, and what shows the progress of one piece of work and of several workers."""

    notify: Notify
    one: ShownBy
    many: Callable[[int], ManyShown]


PLAIN = Display(on_standard_error, Unseen, ManyUnseen)
