"""Words of error messages: the known word nearest to one that is not known, the first line of what a library says."""

import difflib
from collections.abc import Iterable


def shortened(error: BaseException) -> str:
    """The first line of its message, without the statement and values that follow in a driver's."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300] or type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'lenet'? `, or nothing where no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
