"""What the page shows: figures and tables with their numbers, in sections; or why one is not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from PIL.Image import Image


class Shown(NamedTuple):
    """A table as the page prints it; `left` of its columns hold words."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Exhibit:
    """`name` is that of its files: a figure's PNG and SVG, `numbers` as CSV.

    A long table is `folded`. Where `missing` says why there is nothing to show, the rest is empty.
    """

    name: str
    title: str
    caption: str = ""
    figure: "Figure | None" = None
    picture: "Image | None" = None
    numbers: "pd.DataFrame | None" = None
    shown: Shown | None = None
    folded: bool = False
    missing: str = ""
    wide: bool = False


class Section(NamedTuple):
    """`anchor` is its link."""

    anchor: str
    title: str
    text: str
    exhibits: Sequence[Exhibit]
