"""HTML made from our templates: names are escaped, and characters that HTML has no place for are shown as escapes."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fkal.escaping import printable


def rendered(template: str, style: str, script: str = "", **values: Any) -> str:
    """The page of a template, its style and its script inside."""
    code = text_of(script) if script else Markup("")
    return str(_environment().get_template(template).render(style=text_of(style), script=code, **values))


def text_of(name: str) -> Markup:
    """A file of ours beside the templates, as it is."""
    return Markup((files("fkal.labeling") / "templates" / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fkal.labeling", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
