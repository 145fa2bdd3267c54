"""One page that holds all it shows: nothing is fetched, so it opens from disk, offline and on a phone."""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from fkal.escaping import printable
from fkal.plots.canvas import has_paper
from fkal.report.exhibit import Exhibit, Section
from fkal.report.inline_svg import inline_svg
from fkal.report.reproducibility import Recipe


def page(
    sections: Sequence[Section],
    trust: Sequence[Exhibit],
    *,
    title: str,
    verdicts: Sequence[str],
    lead: Sequence[str],
    notes: Sequence[str],
    recipes: Sequence[Recipe],
    command: str,
    svgs: Mapping[str, bytes],
) -> str:
    """The HTML; `svgs` has the figures by exhibit's name, `trust` are the tables of its last section, under folds."""
    environment = Environment(
        loader=PackageLoader("fkal.report", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.update(svg=lambda each: _svg(each, svgs[each.name]), data_url=_data_url)
    style = Markup((files("fkal.report") / "templates" / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(
        sections=sections,
        trust=trust,
        title=title,
        verdicts=verdicts,
        lead=lead,
        notes=notes,
        recipes=recipes,
        command=command,
        style=style,
    )


def _printable(value: object) -> object:
    """HTML has no place for control characters, and UTF-8 none for surrogates; what is Markup was made here."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def png_of(exhibit: Exhibit) -> bytes:
    """Of a picture."""
    assert exhibit.picture is not None
    content = io.BytesIO()
    exhibit.picture.save(content, "PNG", optimize=True)
    return content.getvalue()


def _svg(exhibit: Exhibit, svg: bytes) -> Markup:
    assert exhibit.figure is not None
    alt = printable(f"{exhibit.title}. {exhibit.caption}")
    return Markup(inline_svg(svg, exhibit.name, alt, has_paper=has_paper(exhibit.figure)))


def _data_url(exhibit: Exhibit) -> str:
    return f"data:image/png;base64,{base64.b64encode(png_of(exhibit)).decode()}"
