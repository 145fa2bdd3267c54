"""The paper that figures are drawn on: sizes, ink, legends, and their bytes as PNG and SVG."""

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from fkal.config.method_spec import short_method_name
from fkal.plots.figure_text import figure_text, load_matplotlib

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, RULE = "#24292f", "#dfe3e8"
"""Of text and axes, and of grids; no method has these colours, so a page can put its own in their place."""
PAPER = "#ffffff"
OWN_TITLE = "own-title"
WIDTH, HEIGHT = 5.0, 3.3  # inches: half of a page on a laptop, and still legible on a phone
PNG_DPI = 160
ROW = 0.17  # inches of a legend's row
MANY = 10  # entries of a legend, beyond which it is set small
LETTER, HANDLE = 0.0075, 0.06  # inches a point: of a letter, and of what else stands in a legend's column
MARGIN = 0.07  # inches between a small picture and the edge of its paper
TITLE = 26  # letters of a small picture's title, beyond which it is broken
SMALL_COLUMNS, SMALL_SIDE = 4, 1.9  # small pictures in a row; inches

STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "hatch.linewidth": 0.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "fkal",
}


def style() -> AbstractContextManager[None]:
    """Figures are made and saved within it."""
    load_matplotlib()
    import matplotlib as mpl

    settings: Any = dict(STYLE)
    return mpl.rc_context(settings)


def canvas(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float = HEIGHT, **shared: Any
) -> tuple["Figure", "np.ndarray[Any, np.dtype[Any]]"]:
    """A figure and its axes as an array (rows columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def small_canvas(n: int, *, side: float = SMALL_SIDE, **shared: Any) -> tuple["Figure", list["Axes"]]:
    """Small pictures in rows, on white paper: colours of classes and of matrices reach into the dark.

    A single one is twice as wide, for the legend below it.
    """
    columns = min(SMALL_COLUMNS, n)
    rows = -(-n // columns)
    figure, axes = canvas(rows, columns, width=max(2, columns) * SMALL_SIDE, height=rows * side, **shared)
    figure.set_facecolor(PAPER)
    figure.set_layout_engine("constrained", w_pad=MARGIN, h_pad=MARGIN)
    return figure, hide_rest(axes, n)


def title_alone(axes: "Axes", text: str) -> None:
    """The title of a figure of one picture, which the page leaves out where its heading says the same."""
    axes.set_title(figure_text(text)).set_gid(OWN_TITLE)


def has_paper(figure: "Figure") -> bool:
    """Whether it is on its own white paper rather than on the page."""
    from matplotlib.colors import to_rgba

    return to_rgba(figure.get_facecolor())[3] > 0


def broken(method: str) -> str:
    """A method as figures name it: by its alias, `figure_text`, a long name in several lines with each mark whole."""
    lines = [""]
    for part in re.split("(?=[:@])", figure_text(short_method_name(method))):
        if lines[-1] and len(lines[-1] + part) > TITLE:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def key_below(figure: "Figure", handles: Sequence["Artist"]) -> None:
    """A legend of what is no method, row by row, as many a row as there is room for."""
    width, height = figure.get_size_inches()
    room = 0.4 + 0.07 * max(len(str(each.get_label())) for each in handles)  # inches of an entry
    columns = max(1, min(len(handles), int(width / room)))
    figure.set_size_inches(width, height + ROW * -(-len(handles) // columns))
    by_row = [each for column in range(columns) for each in handles[column::columns]]
    short: Any = {"handlelength": 1.2, "handletextpad": 0.4, "columnspacing": 1.0, "fontsize": 7.5}
    figure.legend(handles=by_row, loc="outside lower center", ncols=columns, **short)


def legend_below(figure: "Figure", axes: "np.ndarray[Any, np.dtype[Any]]", *, columns: int = 2) -> None:
    """One for all axes, each name once; the figure grows by its rows."""
    entries: dict[str, Any] = {}
    for each in axes.flat:
        for handle, name in zip(*each.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    width, height = figure.get_size_inches()
    points = 6.5 if len(entries) > MANY else 8
    columns = fitting_columns(list(entries), columns, points=points, width=width)
    figure.set_size_inches(width, height + ROW * points / 8 * -(-len(entries) // columns))
    short: Any = {"fontsize": points, "handlelength": 2.4, "columnspacing": 1.0}
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns, **short)


def fitting_columns(names: Sequence[str], wanted: int, *, points: float, width: float) -> int:
    """The most columns of a legend, up to those wanted, that a figure so wide (in inches) does not cut."""
    for columns in range(wanted, 1, -1):
        rows = -(-len(names) // columns)
        letters = sum(max(map(len, names[i : i + rows])) for i in range(0, len(names), rows))
        if points * (LETTER * letters + HANDLE * columns) < width:
            return columns
    return 1


def hide_rest(axes: "np.ndarray[Any, np.dtype[Any]]", used: int) -> list["Axes"]:
    """The first `used` axes; the others are not seen."""
    every = list(axes.flat)
    for each in every[used:]:
        each.set_visible(False)
    return every[:used]


def png_bytes(figure: "Figure", numbers: bytes) -> bytes:
    """The file tells which numbers it was drawn from, a table as CSV."""
    told = {"Software": None, "Description": about_numbers(numbers)}
    return _saved(figure, "png", dpi=PNG_DPI, facecolor="white", metadata=told)


def about_numbers(numbers: bytes) -> str:
    return f"sha256 of its numbers: {hashlib.sha256(numbers).hexdigest()}"


def svg_bytes(figure: "Figure") -> bytes:
    return _saved(figure, "svg", metadata={"Date": None, "Creator": "fkal report"})


def _saved(figure: "Figure", kind: str, **options: Any) -> bytes:
    """The layout is made once and kept: it is the larger part of the drawing, and each saving would make it twice."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    content = io.BytesIO()
    figure.savefig(content, format=kind, **options)
    return content.getvalue()
