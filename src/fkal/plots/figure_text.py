"""Text that is not ours, for matplotlib: drawn as it is, never as a formula, and without letters that no font has."""

from collections.abc import Sequence
from functools import cache, lru_cache

from fkal.escaping import one_line, printable
from fkal.interrupts import unbroken


def figure_text(text: str) -> str:
    """For titles, legends and ticks.

    A dollar sign would begin a formula; a letter that no font has would be a box and a warning; matplotlib leaves a
    name that begins with `_` out of the legend.
    """
    load_matplotlib()
    from matplotlib import rcParams

    fonts = _font_files(tuple(rcParams["font.family"]))
    shown = "".join(_drawn(letter, fonts) for letter in printable(text).replace("\t", " ")).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def caption_text(text: str) -> str:
    """For the caption of a picture, in `caption_font_file`: one line, and dollar signs are letters."""
    fonts = (caption_font_file(),)
    return "".join(_drawn(letter, fonts) for letter in one_line(text))


def caption_font_file() -> str:
    """matplotlib's own font: it is there wherever matplotlib is, and it knows the letters of most scripts."""
    load_matplotlib()
    from matplotlib import get_data_path

    return f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"


@cache
def load_matplotlib() -> None:
    """Before anything else of it is imported: an interrupt in the middle makes Python abort at its end.

    A first interrupt waits until it is loaded, a second one does not.
    """
    with unbroken():
        import matplotlib  # noqa: F401


def _drawn(letter: str, fonts: Sequence[str]) -> str:
    """The letter where a font has it, else its escape."""
    if letter.isascii() or any(ord(letter) in _letters(font) for font in fonts):
        return letter
    return letter.encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=8)
def _font_files(families: tuple[str, ...]) -> tuple[str, ...]:
    from matplotlib.font_manager import FontProperties, findfont

    return tuple(findfont(FontProperties(family=[family])) for family in families)


@lru_cache(maxsize=8)
def _letters(font_file: str) -> frozenset[int]:
    from matplotlib.font_manager import get_font

    return frozenset(get_font(font_file).get_charmap())
