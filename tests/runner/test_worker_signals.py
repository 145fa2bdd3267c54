"""How a worker is asked to end: by SIGTERM, or by the SIGINT of Ray."""

import os
import signal

import pytest

from fkal.runner import worker


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def doing(monkeypatch, tmp_path):
    """A call of the worker that does this in the place of an experiment; its end is raised, not taken."""

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(worker.os, "_exit", ended)

    def work(task) -> bytes:
        monkeypatch.setattr("fkal.experiment.experiment.prepare", lambda *_: task())
        return worker.work(Named(), tmp_path, None, wait=True)

    monkeypatch.setattr(worker, "shown_name", lambda _: "an experiment")
    return work


class Named:
    """Stands for a configuration."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_break_off_what_is_being_closed(doing, number):
    closed = []

    def task() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            closed.append(True)

    with pytest.raises(SystemExit) as ended:
        doing(task)
    assert ended.value.code == worker.INTERRUPTED
    assert closed == [True]


def test_a_worker_that_ignores_the_keyboard_goes_on_doing_so(doing):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen = []

    def task() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(signal.getsignal(signal.SIGINT))
        raise ValueError("the end")

    with pytest.raises(ValueError, match="the end"):
        doing(task)
    assert seen == [signal.SIG_IGN] and signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_handlers_are_as_before_when_an_experiment_has_ended(doing):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def task() -> None:
        raise ValueError("the end")

    with pytest.raises(ValueError, match="the end"):
        doing(task)
    assert {number: signal.getsignal(number) for number in before} == before
