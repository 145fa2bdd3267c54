"""`fkal report`: finished experiments as one page, every figure as PNG and SVG, every table as CSV."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pandas as pd

from fkal.atomic_files import write_whole
from fkal.config.schema import ConfigError
from fkal.engine.progress import Progress
from fkal.errors import did_you_mean, refuse_damaged
from fkal.folders import below
from fkal.notify import PLAIN, Display, Notify, Shown, on_standard_error
from fkal.plots.canvas import png_bytes, style, svg_bytes
from fkal.plots.method_styles import method_styles
from fkal.report.exhibit import Exhibit
from fkal.report.experiments import Material
from fkal.report.figures.accuracy import accuracy_figure, accuracy_numbers
from fkal.report.html import page, png_of
from fkal.report.panels import Panel, has_no_curve, known_method, panels_of
from fkal.report.reproducibility import experiments_exhibit, figures_exhibit, recipes
from fkal.report.sections import SECTIONS, sections_of
from fkal.report.stats.paired_tests import TESTS
from fkal.report.verdict import setup, verdicts
from fkal.results.csv_files import csv_bytes
from fkal.results.curves import ACCURACY

CURVE = ["dataset", "bias", "method", "labels_used"]

LISTING = ".fkal-report"
"""Of the figures, tables and settings that belong to the page."""
T = TypeVar("T")
OWN_FILE = re.compile(r"(figures|tables|settings)/[^/\\]+\.(png|svg|csv|yaml)")


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows: some methods or all, the accuracies to reach (fractions; None: those that curves reach),
    the test, where images are."""

    methods: tuple[str, ...] = ()
    accuracies: tuple[float, ...] | None = None
    test: str = "t"
    against: str | None = None
    data_root: Path | None = None
    given: tuple[str, ...] = ()
    """The options of the command, as the page prints them."""


def report_options(
    method: str | None, reach: str | None, test: str, data_root: Path | None, against: str | None = None
) -> ReportOptions:
    """Of the command's options. Raises ConfigError for what is none."""
    if test not in TESTS:
        raise ConfigError(f"--test {test!r}: {did_you_mean(test, TESTS)}known: {', '.join(TESTS)}")
    try:
        accuracies = None if reach is None else tuple(float(word) / 100 for word in reach.split(","))
    except ValueError:
        raise ConfigError(f"--reach {reach!r}: give accuracies in %, say 80,90") from None
    if not all(0 < accuracy <= 1 for accuracy in accuracies or ()):
        raise ConfigError(f"--reach {reach!r}: accuracies are above 0 and up to 100 %")
    methods = tuple(word.strip() for word in method.split(",")) if method else ()
    named = {"--method": method, "--reach": reach, "--test": test, "--against": against, "--data-root": data_root}
    usual = {"--test": "t"}
    options = [w for k, v in named.items() if v is not None and v != usual.get(k) for w in (k, str(v))]
    return ReportOptions(methods, accuracies, test, against, data_root, tuple(options))


def report(
    material: Material,
    to: Path,
    options: ReportOptions,
    *,
    display: Display = PLAIN,
    tell: Notify = on_standard_error,
) -> None:
    """Write the page and its files. `accuracy.csv` has what DVC plots.

    `tell` gets the counts of figures and tables, `display` what is left out, and how far the work is.

    Raises SomeFailed, once all is written, if some of what was to be reported could not be read.
    """
    if to.exists() and not to.is_dir():
        raise ConfigError(f"--to {to}: is a file; name a folder")
    panels = panels_of(material, options.methods)
    rivals = sorted({method for panel in panels for method in panel.methods})
    against = None if options.against is None else known_method(options.against, rivals, "--against")
    command = shlex.join(["fkal", "report", *material.source, *options.given, "--to", str(to)])
    with style():
        styles = method_styles(material.frame["method"].unique())
        made = sections_of(
            panels,
            styles,
            accuracies=options.accuracies,
            test=options.test,
            against=against,
            data_root=options.data_root,
        )
        with display.one("report") as shown:
            sections = list(_counted(made, SECTIONS, "sections", shown))
        dotted = [each for each in material.finished if has_no_curve(each.outcome.method)]
        trust = [figures_exhibit(sections, command), experiments_exhibit(panels, dotted)]
        every = [each for section in sections for each in section.exhibits]
        overview = Exhibit("accuracy", "", figure=accuracy_figure(panels, styles), numbers=accuracy_numbers(panels))
        drawn = [(each.name, each.figure) for each in [overview, *every] if each.figure is not None]
        with display.one("report") as shown:
            svgs = {name: svg_bytes(figure) for name, figure in _counted(drawn, len(drawn), "figures", shown)}
        settings = recipes(panels, to)
        exhibited = chain(*(_contents(each, svgs) for each in [overview, *every, *trust]))
        files = _written(to, chain(exhibited, ((recipe.file, recipe.settings.encode()) for recipe in settings)))
        text = page(
            sections,
            trust,
            title=f"Labels well spent: {', '.join(dict.fromkeys(panel.group.dataset for panel in panels))}",
            verdicts=verdicts(panels, options.test, against),
            lead=[_lead(panels), setup(panels, options.test)],
            notes=material.notes,
            recipes=settings,
            command=command,
            svgs=svgs,
        )
    scheduled = [panel.frame.assign(schedule=panel.schedule) for panel in panels]
    _write(to, "accuracy.csv", csv_bytes(mean_and_std(pd.concat(scheduled))))
    whole = material.frame[material.frame["method"].map(has_no_curve)]
    _write(to, "iterations.csv", csv_bytes(pd.concat([*(panel.frame for panel in panels), whole])))
    _write(to, "index.html", text.encode())
    _only_these(to, files)
    figures = sum(each.figure is not None or each.picture is not None for each in every)
    tell(f"{to / 'index.html'}: {figures} figures, {sum(each.numbers is not None for each in every)} tables")
    for line in _left_out(every, material.notes):
        display.notify(line)
    refuse_damaged(material.damaged)


def _left_out(exhibits: Sequence[Exhibit], notes: Sequence[str]) -> Iterator[str]:
    """A line for each exhibit that could not be made, and one for experiments that are not shown."""
    yield from (f"left out: {each.missing}" for each in exhibits if each.missing)
    if notes:
        of = f"{len(notes)} notes on experiments" if notes[1:] else "a note on experiments"
        yield f"{of} that are not shown, at the page's end: {notes[0]}"


def _counted(made: Iterable[T], total: int, unit: str, shown: Shown) -> Iterator[T]:
    """Each of them; how many there are so far is shown."""
    for done, each in enumerate(made):
        shown.show(Progress("report", done, total, unit))
        yield each


def mean_and_std(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a curve (dataset, bias, method, schedule) and number of labels: mean accuracy and a deviation around it.

    The accuracy is that on the test set, or on what was held out in its place.
    """
    held_out = frame["measured"] == "holdout"
    accuracy = frame["holdout/accuracy"] if held_out.all() else frame[ACCURACY]
    if held_out.any() and not held_out.all():
        accuracy = accuracy.where(~held_out, frame["holdout/accuracy"])
    words = frame["dataset"] + " " + frame["bias"] + " " + frame["method"]
    words = words + frame["schedule"]
    frame = frame.assign(curve=words + held_out.map({True: " (held out)", False: ""}), accuracy=accuracy)
    found = frame.groupby(["curve", *CURVE], sort=False)["accuracy"]
    table = found.agg(accuracy="mean", std="std", seeds="count").reset_index()
    table["low"] = (table["accuracy"] - table["std"].fillna(0)).clip(lower=0)
    table["high"] = (table["accuracy"] + table["std"].fillna(0)).clip(upper=1)
    return table


def _contents(each: Exhibit, svgs: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Its files below the report's folder."""
    numbers = b"" if each.numbers is None else csv_bytes(each.numbers)
    if each.figure is not None:
        yield f"figures/{each.name}.png", png_bytes(each.figure, numbers)
        yield f"figures/{each.name}.svg", svgs[each.name]
    if each.picture is not None:
        yield f"figures/{each.name}.png", png_of(each)
    if each.numbers is not None:
        yield f"tables/{each.name}.csv", numbers


def _written(to: Path, contents: Iterable[tuple[str, bytes]]) -> set[str]:
    """Writes files below the report's folder; returns their names."""
    files = set()
    for file, content in contents:
        _write(to, file, content)
        files.add(file)
    return files


def _only_these(to: Path, files: Set[str]) -> None:
    """Remove what the report before this one left in the folder, and nothing that it did not write."""
    listing = below(to, LISTING)
    before = listing.read_text(errors="replace").splitlines() if listing.is_file() else []
    for file in set(before) - files:
        if OWN_FILE.fullmatch(file):
            below(to, file).unlink(missing_ok=True)
    _write(to, LISTING, "".join(f"{file}\n" for file in sorted(files)).encode())


def _lead(panels: Sequence[Panel]) -> str:
    runs = sum(panel.frame.groupby(["method", "seed"]).ngroups for panel in panels)
    methods = len({method for panel in panels for method in panel.methods})
    return f"{runs} finished experiments: {methods} methods on {', '.join(panel.title for panel in panels)}."


def _write(to: Path, file: str, content: bytes) -> None:
    path = below(to, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
