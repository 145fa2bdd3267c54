"""Exceptions that a user can set right, and words and values in their messages. Imports nothing heavy."""

import difflib
import errno
import re
from collections.abc import Iterable, Sequence

MOST_NAMES = 20
"""Names that a message lists before it says how many more there are."""


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, or the first of many names and the number of the others."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


READABLE = 60
"""So many characters of a value are shown."""


DRIVER = re.compile(r"^\((?:\w+\.)+[A-Z]\w*\) ")
"""With the name of the driver's exception SQLAlchemy begins a message."""


def first_line(error: BaseException) -> str:
    """The first line of its message, without what a driver writes around it: names, statements, values."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}"
    lines = DRIVER.sub("", str(error)).splitlines() or [type(error).__name__]
    return lines[0][:300] or type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'lenet'? `, or nothing where no known word is near."""
    close = difflib.get_close_matches(word[:READABLE], list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def shortened(value: object) -> str:
    """The value as Python writes it, its end cut off where it is too long to read."""
    if isinstance(value, str):
        return repr(value) if len(value) <= READABLE else f"{value[:READABLE]!r}... ({len(value):,} characters)"
    if isinstance(value, int) and abs(value) >= 10**READABLE:
        return f"a number of more than {READABLE} digits"
    text = repr(value)
    return text if len(text) <= READABLE else f"{text[:READABLE]}..."


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where nothing more can be written: the disk, the user's share of it, the longest file."""
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class EndsAll(Exception):
    """Every further run of a grid would fail of it, too."""


class ProcessLost(EndsAll, RuntimeError):
    """Another process that computes the same run has ended."""


class UserError(EndsAll):
    """The user has to set something right first."""


class ConfigError(UserError, ValueError):
    """One line per problem: the key, the value, what is allowed."""


class MissingSettings(UserError, FileNotFoundError):
    """There is no params file, and no preset was named."""


class MissingWeights(UserError, FileNotFoundError):
    """Pretrained weights are not on this machine and could not be brought; the message says which file goes where."""


class MissingPackage(UserError, ImportError):
    """A package that an optional part needs is not installed; the message has the command that installs it."""


class LabelsMissing(UserError, ValueError):
    """People have not labeled yet what a command needs; it goes on once they have."""


class MissingRuns(FileNotFoundError):
    """There is no tracking store, or no experiment in it."""


class SomeFailed(RuntimeError):
    """Some runs of a grid failed while others finished."""


def ends_all(error: Exception) -> bool:
    """Whether every further run would fail of it, too: settings, a full disk, a store that does not answer."""
    is_disk = isinstance(error, OSError) and error.errno in (*DISK_FULL, *FORBIDDEN)
    return is_disk or isinstance(error, EndsAll)


def refuse_damaged(damaged: Sequence[str]) -> None:
    """Raises SomeFailed for what could not be read, once everything else was shown."""
    if damaged:
        raise SomeFailed(f"{len(damaged)} cannot be read, or only in part:\n" + "\n".join(damaged))
