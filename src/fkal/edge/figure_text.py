"""Text that is not ours, for matplotlib: drawn as it is, never as a formula, and without letters that no font has."""

from functools import lru_cache

from fkal.escaping import one_line, printable


def figure_text(text: str) -> str:
    """For titles, legends and ticks.

    A dollar sign would begin a formula; a letter that no font has would be a box and a warning; matplotlib leaves a
    name that begins with `_` out of the legend.
    """
    shown = "".join(_drawn(letter) for letter in printable(text).replace("\t", " "))
    return f" {shown}" if shown.startswith("_") else shown


def caption_text(text: str) -> str:
    """For a picture's caption, which is one line and knows no formulas."""
    return one_line(text)


def _drawn(letter: str) -> str:
    if letter == "$":
        return r"\$"
    if letter.isascii() or _has_letter(letter):
        return letter
    return letter.encode("ascii", "backslashreplace").decode()


def _has_letter(letter: str) -> bool:
    from matplotlib import rcParams

    return any(ord(letter) in _letters(path) for path in _font_files(tuple(rcParams["font.family"])))


@lru_cache(maxsize=8)
def _font_files(families: tuple[str, ...]) -> tuple[str, ...]:
    from matplotlib.font_manager import FontProperties, findfont

    return tuple(findfont(FontProperties(family=[family])) for family in families)


@lru_cache(maxsize=8)
def _letters(font_file: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(font_file).get_charmap())
