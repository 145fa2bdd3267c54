"""The one door to the terminal: what is written there cannot act on it, has no secrets, and can be encoded.

`typer.echo`, `rich.console.Console` and `print` are used nowhere else.
"""

import codecs
import io
import os
import select
import sys
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any, TextIO

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from fkal.escaping import json_text, printable
from fkal.launch import launch
from fkal.redaction import redacted

WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

FALLBACK = "fkal.fallback"
LOOKALIKES = {
    "±": "+-",
    "–": "-",
    "—": "-",
    "…": "...",
    "≥": ">=",
    "·": ".",
    "“": '"',
    "”": '"',
    "’": "'",
    "●": "*",
    "○": "o",
    "▲": "^",
    "△": "v",
    "│": "|",
    "└": "+",
    "─": "-",
}
"""Our own signs for a terminal that lacks them; other letters become escapes."""


def prepare_streams() -> None:
    """Let standard output and error write what their encoding lacks as well as they can, instead of raising.

    A traceback, shown under --debug, quotes names too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)
    sys.excepthook = _show_traceback


def closed_output() -> bool:
    """Whether nobody reads standard output any more; if so, what is still written to it goes nowhere."""
    return _silenced(sys.__stdout__)


def silence_closed_streams() -> None:
    """What is still written to a terminal that was closed goes nowhere, instead of ending what is being closed."""
    for stream in (sys.__stdout__, sys.__stderr__):
        _silenced(stream)


def _silenced(stream: TextIO | None) -> bool:
    """Whether nobody reads it any more."""
    if stream is None:
        return True
    watched = select.poll()
    watched.register(stream.fileno(), 0)  # errors are reported unasked, a pipe without reader among them
    if not watched.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return True


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """A line, or several. Of several processes of a run the first one writes."""
    if launch().leads:
        typer.echo(_shown(text, err=err), err=err, nl=nl)


def echo_json(value: Any) -> None:
    """One object on one line of standard output."""
    if launch().leads:
        typer.echo(json_text(value))


def say(message: str) -> None:
    """One line on standard error."""
    echo(message, err=True)


def complain(message: str, *, colour: str = typer.colors.RED) -> None:
    """A line on standard error, in colour where that is a terminal."""
    typer.secho(_shown(message, err=True), err=True, fg=colour)


def confirm(question: str) -> None:
    """Raises typer.Abort unless the answer is yes."""
    typer.confirm(_shown(question, err=True), abort=True, err=True)


def console(*, err: bool = False, piped: int | None = None) -> Console:
    """Prints tables; `piped` is its width where standard output is no terminal."""
    return PlainConsole(stderr=err, width=None if piped is None or os.isatty(1) else piped, markup=False, emoji=False)


class PlainConsole(Console):
    """A console for text that is not ours.

    It escapes each string before it is laid out, so that columns have their width, and again what is rendered, so
    that nothing passes by. Overriding is the one way that no table and no later caller can miss.
    """

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(_encodable(printable(text), self.encoding), **style)

    def on_broken_pipe(self) -> None:
        """As `echo` has it: `cli_errors` ends the command."""
        raise BrokenPipeError

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def _shown(text: str, *, err: bool) -> str:
    """Without secrets, and as its stream can write it: click would write UTF-8 to a terminal of ASCII."""
    stream = sys.stderr if err else sys.stdout
    return _encodable(printable(redacted(text)), getattr(stream, "encoding", None) or "utf-8")


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, errors=FALLBACK).decode(encoding)


def _fallback(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    shown = (LOOKALIKES.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lost)
    return "".join(shown), error.end


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    echo("".join(traceback.format_exception(kind, error, trace)), err=True, nl=False)


codecs.register_error(FALLBACK, _fallback)
