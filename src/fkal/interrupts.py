"""Signals that ask a process to end: none is lost, and none breaks off what must be whole."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

AGAIN_SECONDS = 0.05
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def none_lost(arm: Callable[[KeyboardInterrupt], int]) -> Iterator[None]:
    """An interrupt that a handler raises in a finaliser or in a weak reference's callback is sent once more.

    Python lets nothing that such a function raises go further. `arm` sets the handler again, and returns the number of
    the signal. An error that was made of an interrupt is raised as that interrupt.
    """
    hook, timers = sys.unraisablehook, list[threading.Timer]()
    sys.unraisablehook = partial(_send_again, hook, arm, timers)
    try:
        yield
    except Exception as error:
        raise_interrupt_in(error)
        raise
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()


def interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that the error is, or was made of: an extension module that is interrupted while it is imported
    raises ImportError from it."""
    seen = set[int]()
    while error is not None and id(error) not in seen:  # an error can be its own cause
        if isinstance(error, KeyboardInterrupt):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


def raise_interrupt_in(error: Exception) -> None:
    """For whoever goes on after errors."""
    if (interrupt := interrupt_in(error)) is not None:
        raise interrupt from None


def _send_again(
    otherwise: Callable[[Any], object],
    arm: Callable[[KeyboardInterrupt], int],
    timers: list[threading.Timer],
    unraisable: Any,
) -> None:
    """A moment later: raised here it would go no further either."""
    error = unraisable.exc_value
    if not isinstance(error, KeyboardInterrupt):
        otherwise(unraisable)
        return
    timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), arm(error)))
    timer.daemon = True
    timers.append(timer)
    timer.start()


@contextmanager
def unbroken() -> Iterator[None]:
    """A signal that comes within is handled at the end; a second one is handled at once.

    For calls that an interrupt in the middle would leave half done, such as a database's: a transaction that nobody
    ends keeps its locks.
    """
    if threading.current_thread() is not threading.main_thread():  # only there signals have handlers
        yield
        return
    before = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    came: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        if came:
            _set(before)
            before[number](number, frame)
        came.append(number)

    _set(dict.fromkeys(before, keep))
    try:
        yield
    finally:
        _set(before)
        if came:
            before[came[0]](came[0], None)


def _set(handlers: "dict[signal.Signals, Callable[[int, FrameType | None], Any]]") -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
