"""The pages that show tables of the committed rows, between their markers.

A table is between `<!-- rows KIND GRID,GRID -->` and `<!-- end -->`. It is made of the rows alone, and of those only
that were measured by the settings and versions of today.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from fkal.atomic_files import write_whole
from fkal.config.method_spec import long_method_name
from fkal.config.schema import ConfigError
from fkal.experiment.names import bias_name, dataset_name
from fkal.report.figures.published import published_curves
from result_pages import tables
from result_pages.balanced import balanced
from result_pages.cells import NOT_MEASURED
from result_pages.grids import ROOT, Grid, Plan, first_config, recipes_of
from result_pages.rows import Pages
from result_pages.tables import CONTENDERS, OPTIONS, Table, is_of_the_paper

MARKED = re.compile(r"(?P<start><!-- rows (?P<kind>\w+) (?P<grids>\S+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
KINDS: dict[str, tuple[Table, Callable[[str], bool]]] = {
    "accuracy": (tables.accuracy, is_of_the_paper),
    "digits": (tables.confused_digits, is_of_the_paper),
    "all": (tables.whole_pool, lambda method: method == "all"),
    "contenders": (tables.contenders, lambda method: method in CONTENDERS),
    "options": (tables.options, lambda method: OPTIONS.fullmatch(method) is not None),
    "small": (tables.small, lambda method: True),
    "paid": (tables.paid, lambda method: True),
    "short": (tables.in_short, lambda method: True),
    "balanced": (balanced, lambda method: True),
    "readme": (tables.readme, lambda method: True),
}
"""Each kind of table, and which methods of its grids have a row in it."""


def paths() -> list[Path]:
    """Pages that may have tables of rows."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def write_tables(files: Iterable[Path], plan: Plan, pages: Pages) -> list[Path]:
    """Fill in the tables of these files; returns those that changed."""
    changed = []
    for path in files:
        before = path.read_text(encoding="utf-8")
        after = MARKED.sub(lambda match: filled(match, plan, pages), before)
        if after != before:
            write_whole(path, after.encode())
            changed.append(path)
    return changed


def filled(match: re.Match[str], plan: Plan, pages: Pages) -> str:
    """One table with its markers. Raises ConfigError for a kind or a grid that there is not."""
    if match["kind"] not in KINDS:
        raise ConfigError(f"{match['start'].strip()}: no such kind of table; there are {', '.join(KINDS)}")
    table, is_shown = KINDS[match["kind"]]
    grids = plan.chosen(match["grids"])
    methods = readme_methods(plan) if match["kind"] == "readme" else [m for grid in grids for m in recipes_of(grid)]
    shown = [method for method in dict.fromkeys(methods) if is_shown(method)]
    curves = pd.concat([todays_rows(grid, pages) for grid in grids])
    lines = table_lines(table, curves[curves.method.isin(shown)], published_of(grids[0]), shown)
    return match["start"] + "\n".join(lines) + "\n" + match["end"]


def table_lines(table: Table, curves: pd.DataFrame, published: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """The table of these rows, its methods in the order of `methods`; one line where there are none."""
    if curves.empty:
        return [NOT_MEASURED]
    place = {method: n for n, method in enumerate(methods)}
    ordered = curves.sort_values("method", key=lambda names: names.map(place), kind="stable")
    return table(ordered, published, [method for method in methods if method not in set(curves.method)])


def todays_rows(grid: Grid, pages: Pages) -> pd.DataFrame:
    """The grid's rows whose recipe is today's, with `accuracy` as it was measured and `validation`: the images per
    class that a method sees."""
    rows, config = pages.rows(grid.page), first_config(grid)
    mine = rows[(rows.grid == grid.name) & (rows.recipe == rows.method.map(recipes_of(grid)))]
    measured = "holdout/accuracy" if config.holdout else "test/accuracy"
    accuracy = mine[measured] if measured in mine else pd.Series(dtype=float)
    return mine.assign(accuracy=accuracy, validation=config.data.validation_per_class - config.holdout)


def published_of(grid: Grid) -> pd.DataFrame:
    """The paper's curves of the same dataset and bias."""
    config, paper = first_config(grid), published_curves()
    return paper[(paper.dataset == dataset_name(config.data)) & (paper.bias == bias_name(config.bias))]


def readme_methods(plan: Plan) -> list[str]:
    return [long_method_name(method) for method in plan.readme_methods]
