"""What can be wrong with data, each a class of its own so that the edge can answer it, and how names are shown."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from fkal.errors import UserError

SHOWN = 60  # characters of a wrong value in a message
# Control characters, line and paragraph separators, marks that turn the direction of text, bytes that are no UTF-8.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class MissingData(UserError, FileNotFoundError):
    """A dataset is not on this machine and could not be brought; the message says what to put where."""


class IncompleteData(MissingData):
    """A dataset is on this machine but lacks images; the message is whole and has its own way out."""


class CorruptData(ValueError):
    """A dataset's file is present but is not what its format says."""


class Flaw(StrEnum):
    """Why an image file cannot be used."""

    MISSING = "missing"
    UNREADABLE = "unreadable"  # the file system refuses it
    IRREGULAR = "irregular"  # a pipe, a socket, a device, a folder
    EMPTY = "empty"
    UNKNOWN_FORMAT = "unknown format"
    NEEDS_PACKAGE = "needs a package"
    TOO_LARGE = "too large"
    UNSUPPORTED_PIXELS = "unsupported pixels"
    BROKEN = "broken"


class CorruptImage(CorruptData):
    """One or more image files cannot be decoded; the message names them, `flaw` and `reason` are the first one's."""

    def __init__(self, message: str, flaw: Flaw = Flaw.BROKEN, reason: str = "") -> None:
        super().__init__(message)
        self.flaw = flaw
        self.reason = reason


class CorruptSplit(UserError, ValueError):
    """A split file is not a whole, consistent split."""


class ForeignSplit(UserError, ValueError):
    """A split was drawn from other images than those it is used with."""


def printable(name: str | Path) -> str:
    """The name on one line of valid text: what a terminal or a file could not take is escaped."""
    return UNPRINTABLE.sub(_escaped, str(name))


def excerpt(value: object) -> str:
    """A wrong value as a message shows it: on one line and short."""
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):  # an int of thousands of digits; lists in lists in lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python holds it in a name
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape", "surrogatepass").decode()
