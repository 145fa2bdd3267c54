"""Did you mean: the known word nearest to one that is not known."""

import difflib
from collections.abc import Iterable, Sequence

MOST_NAMES = 20
"""Names that a message lists before it says how many more there are."""


def shortened(names: Sequence[str]) -> str:
    """`a, b, c`, or the first of many names and the number of the others."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'lenet'? `, or nothing where no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
