"""Exceptions that a user can set right, and words and values in their messages. Imports nothing heavy."""

import difflib
from collections.abc import Iterable, Sequence

MOST_NAMES = 20
"""Names that a message lists before it says how many more there are."""


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, or the first of many names and the number of the others."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


READABLE = 60
"""So many characters of a value are shown."""


def first_line(error: BaseException) -> str:
    """The first line of its message, without the statement and values that follow in a driver's."""
    lines = str(error).splitlines() or [type(error).__name__]
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


class ConfigError(ValueError):
    """One line a problem: the key, the value, what is allowed."""
