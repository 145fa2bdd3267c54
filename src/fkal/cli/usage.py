"""Command lines that no command has to look at: wrong usage, empty values, paths that no file can have.

Imports nothing heavy.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from fkal.cli.exit import WRONG
from fkal.cli.terminal import complain
from fkal.errors import shortened
from fkal.launch import launch

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Of the click that typer brings along, or of click itself."""
PATHS = frozenset(
    {"--params", "--plan", "--out", "--root", "--data-root", "--to", "--curves", "--tuned-dir", "--storage"}
)
LONGEST_FILE_NAME = 255
LONGEST_PATH = 4000
LONGEST_MESSAGE = 300
ARGUMENTS = "fkal.arguments"


class OneLineErrors(TyperGroup):
    """Ends with exit code 2 and a line on standard error, where typer would print a box."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, which shows the help where nothing is given."""
        if not args:
            return super().parse_args(ctx, args)
        problems = list(dict.fromkeys(_problems(args)))
        if problems:
            _end(problems)
        ctx.meta[ARGUMENTS] = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            _end([_line(error, ctx)])

    def invoke(self, ctx: Any) -> Any:
        """A command of the group, whose own options are read here."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            _end([_line(error, ctx)])


def path_problem(text: str) -> str:
    """Why no file can have this path; empty where one can."""
    size = len(os.fsencode(text))
    if size > LONGEST_PATH:
        return f"a path of {size:,} bytes; give one of at most {LONGEST_PATH:,}"
    longest = max((len(os.fsencode(part)) for part in text.split("/")), default=0)
    if longest > LONGEST_FILE_NAME:
        return f"a file name of {longest} bytes; give one of at most {LONGEST_FILE_NAME}"
    return ""


def _problems(args: Sequence[str]) -> Iterator[str]:
    for option, value in _values(args):
        if not value.strip():
            yield f"{option} {value!r}: is empty; give a value, or leave {option} out"
        elif option in PATHS and (why := path_problem(value)):
            yield f"{option} {shortened(value)}: {why}"
    for before, word in zip(["", *args], args, strict=False):
        if not word.strip() and not before.startswith("--"):
            yield f"{word!r}: is empty; give a name, or leave it out"


def _values(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with what follows it, `--out runs` and `--out=runs`."""
    for word, following in zip(args, [*args[1:], None], strict=True):
        if word == "--":
            return
        if not word.startswith("--"):
            continue
        option, equals, value = word.partition("=")
        if equals:
            yield option, value
        elif following is not None:
            yield option, following


def _line(error: Any, ctx: Any) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    command = error.ctx.command_path if error.ctx else f"{ctx.command_path} {ctx.invoked_subcommand or ''}".rstrip()
    return f"{_given(error, ctx.meta.get(ARGUMENTS, ()))}{message}; what it takes: {command} --help"


def _given(error: Any, args: Sequence[str]) -> str:
    """The option and value that an error is about; typer does not say the value."""
    param = getattr(error, "param", None)
    if param is None or not isinstance(error, typer.BadParameter):
        return ""
    values = [value for option, value in _values(args) if option in param.opts]
    if not values and isinstance(param.envvar, str) and param.envvar in os.environ:
        return f"{param.envvar}={shortened(os.environ[param.envvar])}: "
    return f"{param.opts[0]} {shortened(values[-1])}: " if values else ""


def _end(problems: Sequence[str]) -> NoReturn:
    for problem in problems if launch().leads else ():
        complain(f"error: {problem}")
    raise typer.Exit(WRONG) from None
