"""How a command ends: exit codes, and one line a problem on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

FAILED, WRONG, SOME_FAILED, MISSING, INTERRUPTED = 1, 2, 3, 4, 130


class SomeFailed(RuntimeError):
    """Some runs of a grid failed while others finished."""


class MissingSettings(FileNotFoundError):
    """There is no params file, and no preset was named."""


class MissingRuns(FileNotFoundError):
    """There is no tracking store, or no experiment in it."""


@contextmanager
def answered(debug: bool) -> Iterator[None]:
    """Turns an exception into its message and exit code; with `debug` it is raised as it is.

    2: usage, configuration, data or a store that is wrong; 4: data, settings or runs that are missing;
    3: some runs of several failed; 1: a run failed; 130: interrupted.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        if debug:
            raise
        _end(INTERRUPTED, "interrupted; the same command goes on from the last finished iteration")
    except Exception as error:
        if debug:
            raise
        _end(*_answer(error))


def is_wrong(error: Exception) -> bool:
    """Whether the user has to set something right first: every further run would fail of it, too."""
    from fkal.config.schema import ConfigError
    from fkal.data.errors import CorruptSplit, ForeignSplit, MissingData
    from fkal.tracking.store import StoreError

    return isinstance(error, ConfigError | CorruptSplit | ForeignSplit | MissingData | MissingSettings | StoreError)


def _answer(error: Exception) -> tuple[int, str]:
    from fkal.data.errors import CorruptData, MissingData

    if isinstance(error, MissingData | MissingSettings | MissingRuns):
        return MISSING, str(error)
    if isinstance(error, SomeFailed):
        return SOME_FAILED, str(error)
    if is_wrong(error) or isinstance(error, CorruptData):
        return WRONG, str(error)
    kind = "" if isinstance(error, ValueError | FloatingPointError) else f"{type(error).__name__}: "
    return FAILED, f"{kind}{' '.join(str(error).split())} (--debug shows where)"


def _end(code: int, message: str) -> None:
    for line in message.splitlines():
        typer.secho(f"error: {line}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code) from None
