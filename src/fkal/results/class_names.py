"""Names of an experiment's classes: as its files hold them, else as the registry of datasets knows them."""

from collections.abc import Iterable, Sequence
from typing import Any

from fkal.data.registry import DATASETS

MOST_CLASSES = 1000
"""Of more classes no names are kept beside the results."""
LONGEST_NAME = 1000


def kept_names(classes: Sequence[str]) -> list[str]:
    """The names that an experiment's files hold; none of too many classes."""
    return list(classes) if len(classes) <= MOST_CLASSES else []


def checked_names(value: Any) -> tuple[str, ...]:
    """Names that were read from a file. Raises ValueError for what is no list of different names."""
    if not isinstance(value, list) or len(value) > MOST_CLASSES:
        raise ValueError(f"classes: give a list of at most {MOST_CLASSES:,} names")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in value):
        raise ValueError(f"classes: each is a name of 1 to {LONGEST_NAME:,} characters")
    if len(set(value)) < len(value):
        raise ValueError("classes: two of them have one name")
    return tuple(value)


def names_by_number(dataset: str, n: int, kept: Iterable[Sequence[str]] = ()) -> tuple[str, ...]:
    """The names of `n` classes, or nothing where they are not known.

    Names that experiments kept come first; where they contradict each other, none is right for all.
    """
    known = {tuple(names) for names in kept if names}
    if known:
        (first, *others) = known
        return first if len(first) == n and not others else ()
    entry = DATASETS.get(dataset)
    published = entry.classes if entry else ()
    return published if len(published) == n else ()


def numbers(n: int) -> tuple[str, ...]:
    """What stands for names that are not known."""
    return tuple(str(k) for k in range(n))
