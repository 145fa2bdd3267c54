"""How a command ends: exit codes, and one line a problem on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

FAILED, WRONG, SOME_FAILED, MISSING, INTERRUPTED = 1, 2, 3, 4, 130


class SomeFailed(RuntimeError):
    """Some runs of a grid failed while others finished."""


@contextmanager
def answered(debug: bool) -> Iterator[None]:
    """Turns an exception into its message and exit code; with `debug` it is raised as it is.

    2: usage, configuration or data that is wrong; 4: data that is missing; 3: some runs of
    several failed; 1: a run failed; 130: interrupted.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        _end(INTERRUPTED, "interrupted; the same command goes on from the last finished iteration")
    except FileNotFoundError as error:
        if debug:
            raise
        _end(MISSING, str(error))
    except SomeFailed as error:
        if debug:
            raise
        _end(SOME_FAILED, str(error))
    except ValueError as error:
        if debug:
            raise
        _end(WRONG, str(error))
    except Exception as error:
        if debug:
            raise
        _end(FAILED, f"{type(error).__name__}: {error} (--debug shows where)")


def _end(code: int, message: str) -> None:
    for line in message.splitlines():
        typer.secho(f"error: {line}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code) from None
