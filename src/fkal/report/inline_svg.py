"""A figure's SVG as a part of the page: names of its own, and the page's ink, so that it is dark where the page is."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from fkal.plots.canvas import INK, OWN_TITLE, RULE
from fkal.plots.method_styles import BLACK

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
OF_THE_PAGE = {INK: "currentColor", BLACK: "currentColor", RULE: "var(--rule)"}
COLOUR = re.compile("#[0-9a-f]{6}", re.IGNORECASE)
REFERENCE = re.compile(r"url\(#")
POINTS = 72  # an inch


def inline_svg(svg: bytes, name: str, alt: str, *, has_paper: bool = False) -> str:
    """The `<svg>` element: ids begin with `name`, `alt` says what it shows to those who do not see it.

    The figure's own title is left out: the page has a heading. A figure that `has_paper` of its own keeps its ink.
    The style sheet reads the width in inches, so that letters are of one size in all figures.
    """
    root = ElementTree.fromstring(svg)
    ink = {} if has_paper else OF_THE_PAGE
    for element in list(root):
        if element.tag == f"{{{SVG}}}metadata":
            root.remove(element)
    _drop_own_title(root)
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _own(key, value, name, ink))
    _drop_repeated_ids(root)
    inches = float(root.attrib["viewBox"].split()[2]) / POINTS
    root.attrib.update({"role": "img", "aria-label": alt, "id": name, "style": f"--inches: {inches:.2f}"})
    for size in ("width", "height"):
        root.attrib.pop(size)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_own_title(root: ElementTree.Element) -> None:
    """Its letters are no longer used, and stay defined for the others of the figure."""
    for title in [element for element in root.iter() if element.get("id") == OWN_TITLE]:
        for parent in list(title.iter()):
            for used in parent.findall(f"{{{SVG}}}use"):
                parent.remove(used)


def _drop_repeated_ids(root: ElementTree.Element) -> None:
    """Equal pictures are given the same name, which nothing refers to."""
    seen: set[str] = set()
    for element in root.iter():
        name = element.get("id")
        if name in seen:
            del element.attrib["id"]
        elif name is not None:
            seen.add(name)


def _own(key: str, value: str, name: str, ink: Mapping[str, str]) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == HREF and value.startswith("#"):
        return f"#{name}-{value[1:]}"
    if key in ("style", "clip-path", "fill", "stroke"):
        return REFERENCE.sub(f"url(#{name}-", COLOUR.sub(lambda match: ink.get(match[0].lower(), match[0]), value))
    return value
