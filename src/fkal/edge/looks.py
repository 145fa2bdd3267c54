"""How a method is drawn: one colour, marker and line wherever it appears, for colour-blind eyes as well."""

import re
from collections.abc import Iterable, Mapping
from itertools import product

# Okabe and Ito, Color universal design, 2008
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#767676"

Style = tuple[str, str, str]  # colour, marker, line

STYLES: Mapping[str, Style] = {
    "random": (GREY, "o", "-"),
    "pcc": (SKY, "s", "-"),
    "pfk_joint": (VERMILION, "D", "-"),
    "pfk_joint_shift": (GREEN, ">", "-"),
    "pfk_joint_shift:coverage:whiten": (GREEN, "h", "-"),
    "pfk_predicted": (ORANGE, "p", "-"),
    "pfk_true": (BLACK, "*", "-"),
    "varr": (BLUE, "^", "--"),
    "entropy": (GREEN, "v", "--"),
    "bald": (PURPLE, "P", "--"),
    "mean_std": (SKY, "<", "--"),
    "vaal": (ORANGE, "X", "--"),
    "coreset": (GREEN, "o", ":"),
}
"""How a method is drawn wherever it appears."""

COLOURS = (GREEN, BLUE, PURPLE, ORANGE, SKY, VERMILION, BLACK)
MARKERS = (">", "h", "d", "H", "8", "p", "^", "s", "v")
LINES = ("-.", ":", "--", "-")


def looks(methods: Iterable[str]) -> dict[str, Style]:
    """The fixed ones; each other method's own, in its plain name's colour or else in one that the figure has not."""
    named = sorted(methods)
    chosen = {name: STYLES[name] for name in named if name in STYLES}
    for name in named:
        if name not in chosen:
            plain = STYLES.get(re.split("[:@]", name)[0])
            taken = [style[0] for style in chosen.values()]
            colours = [plain[0]] if plain else sorted(COLOURS, key=taken.count)
            combinations = ((colour, marker, line) for line, marker, colour in product(LINES, MARKERS, colours))
            chosen[name] = next(style for style in combinations if style not in chosen.values())
    return chosen
