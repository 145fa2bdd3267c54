"""Signals that come at bad moments, raised by the tests themselves."""

import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from fkal.interrupts import interrupt_in, none_lost, unbroken


def interrupt(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def armed(_error: KeyboardInterrupt) -> int:
    signal.signal(signal.SIGTERM, interrupt)
    return signal.SIGTERM


@pytest.fixture(autouse=True)
def handled():
    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


class Freed:
    """Something whose end has a callback."""


def test_an_interrupt_in_a_callback_is_raised_a_moment_later():
    def callback(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(1000):
            pass

    @none_lost(armed)
    def work() -> None:
        freed = Freed()
        reference = weakref.ref(freed, callback)
        del freed
        assert reference() is None
        time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_errors_in_a_callback_are_shown_as_before(monkeypatch):
    shown = []
    monkeypatch.setattr("sys.unraisablehook", shown.append)

    def callback(_: object) -> None:
        raise ValueError("bad")

    freed = Freed()
    reference = weakref.ref(freed, callback)
    with none_lost(armed):
        del freed
    assert reference() is None and [str(each.exc_value) for each in shown] == ["bad"]


def test_an_error_that_was_made_of_an_interrupt_is_raised_as_that_interrupt():
    came = KeyboardInterrupt()

    @none_lost(armed)
    def work() -> None:
        try:
            raise ImportError("initialization failed") from came
        except ImportError as error:
            raise RuntimeError("cannot draw") from error

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value is came
    assert interrupt_in(came) is came and interrupt_in(None) is None


def test_an_error_beside_an_interrupt_stays_what_it_is():
    def flush() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise OSError("disk full")  # noqa: B904

    with pytest.raises(OSError, match="disk full"), none_lost(armed):
        flush()


IN_THE_MIDDLE = """
import os, signal, sys
from fkal.plots.figure_text import load_matplotlib

signal.signal(signal.SIGTERM, signal.default_int_handler)


class Asking:
    def find_spec(self, name, *_):
        if name == "matplotlib.ft2font":  # matplotlib is half imported
            print("asked to end")
            os.kill(os.getpid(), signal.SIGTERM)


sys.meta_path.insert(0, Asking())
try:
    load_matplotlib()
except KeyboardInterrupt:
    print("interrupted", "matplotlib.ft2font" in sys.modules)
"""


def test_an_interrupt_waits_until_matplotlib_is_whole():
    """Else Python could abort where it ends."""
    done = subprocess.run([sys.executable, "-c", IN_THE_MIDDLE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "asked to end\ninterrupted True\n"), done.stderr


def test_an_error_that_is_its_own_cause_is_no_interrupt():
    error = OSError("disk full")
    error.__cause__ = error
    assert interrupt_in(error) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_is_raised_at_the_end(number):
    done = []

    @unbroken()
    def work() -> None:
        os.kill(os.getpid(), number)
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest"]


def test_a_second_signal_is_raised_at_once():
    done = []

    @unbroken()
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("some")
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["some"]


def test_handlers_are_as_before_afterwards_also_after_an_error():
    before = signal.getsignal(signal.SIGINT)

    @unbroken()
    def work() -> None:
        assert signal.getsignal(signal.SIGTERM) is not interrupt
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        work()
    assert signal.getsignal(signal.SIGTERM) is interrupt and signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with unbroken():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_other_threads_leave_handlers_alone():
    seen = []

    def work() -> None:
        with unbroken():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [interrupt]
