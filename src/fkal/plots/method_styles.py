"""How a method is drawn: one colour, marker and line in every figure and report, for colour-blind eyes as well."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from fkal.config.method_spec import long_method_name

# Okabe and Ito, Color universal design, 2008
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#767676"
# Brewer's Dark2 adds two that are seen on white and on near-black
PINK, BROWN = "#E7298A", "#A6761D"

Style = tuple[str, str, str]  # colour, marker, line

STYLES: Mapping[str, Style] = {
    "random": (GREY, "o", "-"),
    "all": (BLACK, "s", ":"),
    "validation_only": (GREY, "X", "-."),
    "pcc": (SKY, "s", "-"),
    "pcc@conv2": (SKY, ">", ":"),
    "pfk_joint": (VERMILION, "D", "-"),
    "pfk_joint@conv2": (VERMILION, "o", ":"),
    "pfk_joint:random_theta_0": (VERMILION, "p", "-"),
    "pfk_joint:random_theta_0@conv2": (VERMILION, "h", "--"),
    "pfk_joint:coverage": (VERMILION, ">", "-"),
    "pfk_joint:whiten": (VERMILION, "P", "-."),
    "pfk_joint:coverage:whiten": (VERMILION, "X", ":"),
    "pfk_joint_shift": (BLUE, ">", "-"),
    "pfk_joint_shift:coverage": (GREEN, "<", ":"),
    "pfk_joint_shift:whiten": (BLUE, "o", ":"),
    "pfk_joint_shift:coverage:whiten": (BLUE, "D", "-"),
    "pfk_joint_shift_grid": (PINK, "s", ":"),
    "pfk_joint_shift_grid:coverage": (GREEN, "h", "-"),
    "pfk_joint_shift_grid:ecov": (VERMILION, "<", "-"),
    "pfk_joint_shift_grid:noisy_or": (BLUE, "*", "-"),
    "pfk_joint_shift_grid:wcov": (PURPLE, "s", "-"),
    "pfk_joint_shift_grid:wcov_zg": (PURPLE, "D", "-"),
    "pfk_joint_shift_grid:tail_first": (BROWN, "P", "-"),
    "pfk_joint_shift_grid:transport:whiten": (SKY, "D", "-"),
    "pfk_joint_zg": (PINK, "<", "-"),
    "pfk_predicted": (ORANGE, "p", "-"),
    "pfk_predicted@conv2": (ORANGE, "s", ":"),
    "pfk_trace": (BROWN, "^", "-"),
    "pfk_trace@conv2": (BROWN, "v", ":"),
    "pfk_trace:k16": (BROWN, "h", "-."),
    "pfk_trace:k16@conv2": (BROWN, "D", "-"),
    "pfk_mutual_information": (PURPLE, "v", "-"),
    "pfk_mutual_information@conv2": (PURPLE, "^", ":"),
    "pfk_mutual_information:k16": (PURPLE, "D", "-."),
    "pfk_mutual_information:k16@conv2": (PURPLE, "*", "-"),
    "pfk_mutual_information_diagonal": (BLACK, "v", "-."),
    "pfk_true": (BLACK, "*", "-"),
    "pfk_true@conv2": (BLACK, "o", ":"),
    "varr": (BLUE, "^", "--"),
    "varr:e4:k32": (BLUE, "v", "--"),
    "entropy": (PINK, "v", "--"),
    "bald": (PURPLE, "P", "--"),
    "mean_std": (SKY, "<", "--"),
    "vaal": (ORANGE, "X", "--"),
    "boss": (GREY, "D", "--"),
    "least_confidence": (VERMILION, "s", "--"),
    "margin": (GREEN, "D", "--"),
    "softmax_entropy": (BLACK, "<", "--"),
    "balanced_margin": (BROWN, "p", "--"),
    "base": (SKY, "D", "-."),
    "badge": (BLUE, "s", "-."),
    "bait": (VERMILION, "^", "-."),
    "direct": (PURPLE, ">", "-."),
    "galaxy": (BROWN, "X", "-."),
    "epig": (ORANGE, "o", "-."),
    "epig:k16": (ORANGE, "P", "-."),
    "flqmi": (GREEN, "P", "-."),
    "gcmi": (PINK, "h", "-."),
    "coreset": (BROWN, "o", ":"),
    "coreset@fc1": (BROWN, "s", ":"),
    "typiclust": (ORANGE, "v", ":"),
    "dropquery": (GREEN, "^", ":"),
    "probcover": (PURPLE, "s", ":"),
    "maxherding": (SKY, "h", ":"),
    "uherding": (BLUE, "p", ":"),
}
"""No two alike; those without marks differ in colour and line as well as in colour and marker."""

COLOURS = (GREEN, BLUE, PURPLE, ORANGE, SKY, VERMILION, PINK, BROWN)
MARKERS = ("d", "H", "8", "x", "+", "1", "2", "3", "4")
"""Of methods beyond the table, which has none of these: what is drawn from it is never mistaken for them."""
LINES = ("-.", ":", "--", "-")


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    return {method: look(method) for method in methods}


def look(method: str) -> Style:
    """Of the method alone, whatever is drawn beside it: fixed, or by its name's digest in its plain name's colour."""
    name = long_method_name(method)
    if name in STYLES:
        return STYLES[name]
    plain = re.split("[:@]", name)[0]
    colour = STYLES[plain][0] if plain in STYLES else _by_digest(plain, "colour", COLOURS)
    return colour, _by_digest(name, "marker", MARKERS), _by_digest(name, "line", LINES)


def _by_digest(name: str, what: str, choices: Sequence[str]) -> str:
    """Python's own hash differs from one process to the next."""
    digest = hashlib.sha256(f"{what} of {name}".encode(errors="surrogatepass")).digest()
    return choices[int.from_bytes(digest[:8]) % len(choices)]
