"""The pages that show tables of the committed rows, between their markers.

A table is between `<!-- rows KIND GRID,GRID -->` and `<!-- end -->`; with `of METHOD,METHOD` behind the grids it has
these methods alone. It is made of the rows alone, and of those only that were measured by the settings and versions of
today.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fkal.atomic_files import write_whole
from fkal.config.method_spec import long_method_name, short_method_name
from fkal.config.schema import Config, ConfigError
from fkal.experiment.names import bias_name, dataset_name
from fkal.labeling.params_text import MANY
from fkal.report.figures.published import published_curves
from result_pages import tables
from result_pages.balanced import OVERVIEW, balanced, overview
from result_pages.grids import ROOT, Grid, Plan, first_config, recipes_of
from result_pages.rows import COUNTS, Pages
from result_pages.standings import ALONE, CANDIDATES, SAME_LABELS, alone, is_ranked, over_random, standings
from result_pages.tables import CONTENDERS, OPTIONS, SMALL, WITHOUT, Table, is_of_the_paper

MARKED = re.compile(
    r"(?P<start><!-- rows (?P<kind>\w+) (?P<grids>\S+)(?: of (?P<methods>\S+))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)
Chosen = Callable[[str], bool]


def every(method: str) -> bool:
    return True


class Kind(NamedTuple):
    """A kind of table: which methods of its grids it is made of, and which of these are named where they lack."""

    table: Table
    is_read: Chosen = every
    is_missed: Chosen = every


KINDS: dict[str, Kind] = {
    "accuracy": Kind(tables.accuracy, is_of_the_paper),
    "digits": Kind(tables.confused_digits, is_of_the_paper),
    "all": Kind(tables.whole_pool, lambda method: method == "all"),
    "contenders": Kind(tables.contenders, lambda method: method in CONTENDERS),
    "options": Kind(tables.options, lambda method: OPTIONS.fullmatch(method) is not None),
    "small": Kind(tables.small, lambda method: method in SMALL),
    "paid": Kind(tables.paid, lambda method: method in (*SMALL, WITHOUT)),
    "short": Kind(tables.in_short),
    "balanced": Kind(balanced),
    "overview": Kind(overview, lambda method: method in OVERVIEW),
    "readme": Kind(tables.readme),
    "standings": Kind(standings, is_missed=lambda method: method in CANDIDATES),
    "alone": Kind(alone, is_missed=lambda method: method == ALONE),
    "over_random": Kind(over_random, is_ranked, lambda method: method in CANDIDATES),
}


NOT_MEASURED = "not measured by this version"


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
    """One table with its markers. Raises ConfigError for a kind, a grid or a method that there is not."""
    if match["kind"] not in KINDS:
        raise ConfigError(f"{match['start'].strip()}: no such kind of table; there are {', '.join(KINDS)}")
    kind = KINDS[match["kind"]]
    grids = plan.chosen(match["grids"])
    named = plan.readme_methods if match["kind"] == "readme" else (match["methods"] or "").split(",")
    if any(named):
        methods = {grid.name: _of_grid(grid, named) for grid in grids}
    else:
        methods = {grid.name: [method for method in recipes_of(grid) if kind.is_read(method)] for grid in grids}
    curves = pd.concat([todays_rows(grid, methods[grid.name], pages) for grid in grids])
    missed = {grid: [method for method in named if kind.is_missed(method)] for grid, named in methods.items()}
    lines = [NOT_MEASURED] if curves.empty else [*kind.table(curves, published_of(grids[0])), *lacking(curves, missed)]
    return match["start"] + "\n".join(lines) + "\n" + match["end"]


def _of_grid(grid: Grid, names: Sequence[str]) -> list[str]:
    """The methods by their long names. Raises ConfigError where the grid does not have one."""
    known, methods = recipes_of(grid), [long_method_name(name) for name in names]
    if unknown := [method for method in methods if method not in known]:
        raise ConfigError(f"{grid.name} of results.yaml: has no method {', '.join(unknown)}")
    return methods


def lacking(curves: pd.DataFrame, methods: Mapping[str, Sequence[str]]) -> list[str]:
    """A line below the table that names the methods of each grid that have no rows; nothing where all have some."""
    known = set(curves[["grid", "method"]].itertuples(index=False, name=None))
    absent = {grid: [method for method in named if (grid, method) not in known] for grid, named in methods.items()}
    texts = [
        (f"in `{grid}` " if len(methods) > 1 else "") + ", ".join(f"`{short_method_name(method)}`" for method in named)
        for grid, named in absent.items()
        if named
    ]
    return ["", f"{NOT_MEASURED.capitalize()}: {'; '.join(texts)}."] if texts else []


def todays_rows(grid: Grid, methods: Sequence[str], pages: Pages) -> pd.DataFrame:
    """The rows of these methods whose recipe is today's, in the methods' order.

    With `accuracy` as it was measured, `validation`, the images per class that a method sees, the grid's `title`, and
    `rule`, the method that fkal recommends there.
    """
    rows, config, recipes = pages.rows(grid.page), first_config(grid), recipes_of(grid)
    place = {method: n for n, method in enumerate(methods)}
    is_today = (rows.grid == grid.name) & (rows.recipe == rows.method.map(recipes)) & rows.method.isin(place)
    mine = rows[is_today].sort_values("method", key=lambda names: names.map(place), kind="stable")
    measured = "holdout/accuracy" if config.holdout else "test/accuracy"
    accuracy = mine[measured] if measured in mine else pd.Series(dtype=float)
    seen = config.data.validation_per_class - config.holdout
    return mine.assign(accuracy=accuracy, validation=seen, title=grid.title, rule=recommended(config))


def recommended(config: Config) -> str:
    """The candidate that docs/fisher_coverage.md names; none where validation images are trained on."""
    if config.train.on_validation:
        return ""
    if config.is_frozen:
        return f"{SAME_LABELS}wcov"
    has_many = config.data.validation_per_class - config.holdout >= MANY
    return f"{SAME_LABELS}{'coverage' if has_many else 'noisy_or'}"


def published_of(grid: Grid) -> pd.DataFrame:
    """The paper's curves of the same dataset and bias."""
    config, paper = first_config(grid), published_curves()
    return paper[(paper.dataset == dataset_name(config.data)) & (paper.bias == bias_name(config.bias))]


def curves_of(grid: Grid, pages: Pages) -> pd.DataFrame:
    """The grid's rows of today as `fkal report --curves` reads them."""
    config = first_config(grid)
    rows = todays_rows(grid, list(recipes_of(grid)), pages)
    about = {
        "dataset": dataset_name(config.data),
        "bias": bias_name(config.bias),
        "protocol": config.protocol,
        "loss": config.train.loss,
        "on_validation": config.train.on_validation,
    }
    kept = rows[["method", "seed", *COUNTS, *grid.columns]].dropna(axis=1, how="all")
    return pd.concat([pd.DataFrame(about, index=kept.index), kept], axis=1)
