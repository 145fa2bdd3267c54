"""How a command ends: exit codes, and one line per problem on standard error."""

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import typer

from fkal.cli.terminal import closed_output, complain, prepare_streams, silence_closed_streams
from fkal.errors import (
    DISK_FULL,
    FORBIDDEN,
    EndsAll,
    LabelsMissing,
    MissingRuns,
    MissingSettings,
    MissingWeights,
    SomeFailed,
    UserError,
)
from fkal.interrupts import none_lost
from fkal.launch import launch
from fkal.locks import LockHeld

FAILED, WRONG, SOME_FAILED, MISSING, WAITING, INTERRUPTED, UNREAD = 1, 2, 3, 4, 5, 130, 141
ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SIGNAL_CODE = 128
"""A process that a signal ended has this exit code and the signal's number: 143 of SIGTERM, 129 of SIGHUP."""
FIRST_SECONDS = 5.0
"""What the first of several processes has for ending of the same error."""
ODD_PATH = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EEXIST)
"""What the system says of a folder in place of a file, a file in place of a folder, links in a circle, long names."""
LONGEST = 500
"""Characters of a message that we did not write."""


Handler = Callable[[int, FrameType | None], None]


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a scheduler says that it is about to kill the process, or SIGHUP of a terminal that closes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.exit_code = SIGNAL_CODE + number


@contextmanager
def cli_errors(debug: bool) -> Iterator[None]:
    """Turns an exception into its message and exit code; with `debug` it is raised as it is.

    2: usage, configuration, data or a store that is wrong; 4: data, settings or runs that are missing;
    5: labels that people have not given yet;
    3: some runs of several failed; 1: a run failed; 130: interrupted; 141: nobody reads the output any more, as
    after `| head`; 143: terminated; 129: the terminal was closed.
    """
    try:
        with _terminated_as_interrupted():
            yield
    except (typer.Exit, typer.Abort):
        raise
    except Terminated as error:
        if debug:
            raise
        _end(error.exit_code, "terminated; the same command goes on from the last finished round")
    except KeyboardInterrupt:
        if debug:
            raise
        _end(INTERRUPTED, "interrupted; the same command goes on from the last finished round")
    except BrokenPipeError:
        if not closed_output():
            raise
        raise typer.Exit(UNREAD) from None
    except Exception as error:
        if debug:
            prepare_streams()  # its traceback is shown as all else is
            raise
        _end(*_answer(error))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP keep what is finished, as Ctrl-C does; a second one changes nothing."""
    if threading.current_thread() is not threading.main_thread():  # only there signals have handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    call_when_ended(_terminate)
    try:
        with none_lost(_armed):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def call_when_ended(handler: Handler) -> None:
    """At SIGTERM and SIGHUP. What `nohup` has made deaf to SIGHUP stays so."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def _terminate(number: int, _frame: FrameType | None) -> None:
    for each in ENDING_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    silence_closed_streams()
    raise Terminated(number)


def _armed(error: KeyboardInterrupt) -> int:
    if not isinstance(error, Terminated):
        return signal.SIGINT
    signal.signal(error.number, _terminate)
    return error.number


def _answer(error: Exception) -> tuple[int, str]:
    from fkal.data.errors import CorruptData, MissingData

    if isinstance(error, MissingData | MissingSettings | MissingRuns | MissingWeights):
        return MISSING, str(error)
    if isinstance(error, LabelsMissing):
        return WAITING, str(error)
    if isinstance(error, SomeFailed):
        return SOME_FAILED, str(error)
    if isinstance(error, UserError | CorruptData):
        return WRONG, str(error)
    if isinstance(error, LockHeld | EndsAll):
        return FAILED, str(error)
    if isinstance(error, OSError) and error.errno in ODD_PATH and error.filename is not None:
        return WRONG, f"{error.filename}: {error.strerror}; remove what is there, or name another path"
    if isinstance(error, FileNotFoundError) and error.filename is None and _folder_is_gone():
        return WRONG, "this folder was removed; change into one that is there"
    if isinstance(error, OSError):
        return FAILED, f"{_of_system(error)} (--debug shows where)"
    kind = "" if isinstance(error, ValueError | FloatingPointError) else f"{type(error).__name__}: "
    return FAILED, f"{kind}{_shortened(' '.join(str(error).split()))} (--debug shows where)"


def _leave_to_first(code: int) -> None:
    """Of several processes of a run the first one says what ended it, and torchrun then ends the others.

    One that is still here after some seconds failed by itself, and says so.
    """
    if code in (INTERRUPTED, *(SIGNAL_CODE + number for number in ENDING_SIGNALS)):
        raise typer.Exit(code) from None
    time.sleep(FIRST_SECONDS)


def _folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _of_system(error: OSError) -> str:
    """Path, reason and way out."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        _, path, reason = error.args[0][0]  # of a copied tree: (source, target, why)
        return f"{path}: {reason}; {_way_out(error)}"
    if error.filename is None:
        return f"{type(error).__name__}: {_shortened(' '.join(str(error).split()))}; {_way_out(error)}"
    return f"{error.filename2 or error.filename}: {error.strerror}; {_way_out(error)}"


def _way_out(error: OSError) -> str:
    if error.errno in DISK_FULL or os.strerror(errno.ENOSPC) in str(error):
        return "make room there, and give the same command again: it goes on"
    if error.errno in FORBIDDEN:
        return "let this user read and write there, or name another folder"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: raise the limit, say by `ulimit -n 4096`"
    return "see to it, and give the same command again: it goes on"


def _shortened(text: str) -> str:
    """One line of a terminal or two: what follows in a driver's message is the statement and its values."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _end(code: int, message: str) -> None:
    if not launch().leads:
        _leave_to_first(code)
        message = f"process {launch().rank} of {launch().processes}: {message}"
    with suppress(OSError):  # where standard error cannot be written to either, the exit code says it alone
        for line in message.splitlines():
            complain(f"error: {line}")
    raise typer.Exit(code) from None
