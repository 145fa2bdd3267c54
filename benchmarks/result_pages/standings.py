"""Where each candidate for the recommendation is first, level with the first, or behind: a row per setting."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from fkal.config.method_spec import short_method_name
from result_pages.balanced import ALPHA, BALANCED, BASELINE, LIMITS
from result_pages.cells import WITHOUT_CURVE, areas, gaps, head, holm_ps, p_text, points, row, seeds, signed_points

SAME_LABELS = "pfk_joint_shift_grid:"
CANDIDATES = tuple(f"{SAME_LABELS}{matching}" for matching in ("coverage", "wcov", "noisy_or", "wcov_zg", "ecov"))
ALONE = "validation_only"
UNRANKED = (*LIMITS, *WITHOUT_CURVE, "boss")
"""Methods, with whatever taps, that none is held against: they know labels that nobody paid for, or choose nothing."""


class Standing(NamedTuple):
    """A candidate among the other methods of one setting, by one measure.

    `other` is the best of those; `gap` and `p` belong to the difference to it. p is corrected by Holm over all others.
    """

    mine: pd.Series
    other: str
    gap: pd.Series
    p: float
    is_behind: bool

    @property
    def verdict(self) -> str:
        """`behind` where any other method is significantly ahead."""
        if self.is_behind:
            return "behind"
        return "first" if self.gap.mean() > 0 else "level"

    def cells(self) -> tuple[str, ...]:
        against = f"{shown(self.other)} {signed_points(self.gap)}, p {p_text(self.p)}"
        return points(self.mine), against, self.verdict


def is_ranked(method: str) -> bool:
    return method.partition("@")[0] not in UNRANKED


def shown(method: str) -> str:
    """A matching with the labels of all candidates by its name alone, unless the method has a name of its own."""
    return f"`{short_method_name(method).removeprefix(SAME_LABELS)}`"


def standings(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """A row per setting and candidate: the area and the last round, each against the best other method.

    The candidate that the rule names is bold.
    """
    lines = head("setting", "method", "seeds", "AUBC", "best other", "", "last round", "best other", "")
    for grid in dict.fromkeys(curves.grid):
        of_grid = curves[(curves.grid == grid) & curves.method.map(is_ranked)]
        by_method = {str(method): mine for method, mine in of_grid.groupby("method", sort=False)}
        of_areas = {method: areas(mine, BALANCED) for method, mine in by_method.items()}
        of_last = {method: last_round(mine) for method, mine in by_method.items()}
        for method in CANDIDATES:
            if method not in by_method:
                continue
            area, last = standing(method, of_areas), standing(method, of_last)
            if area is not None and last is not None:
                is_rule = method in by_method[method].get("rule", pd.Series(dtype=str)).unique()
                name = f"**{shown(method)}**" if is_rule else shown(method)
                named = (f"`{grid}`", name, seeds(by_method[method]))
                lines.append(row(*named, *area.cells(), *last.cells()))
    return lines


def over_random(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """A row per method and a column per setting: what area and last round are above random picks, paired by seed."""
    cells: dict[str, dict[str, str]] = {}
    grids = list(dict.fromkeys(curves.grid))
    for grid in grids:
        of_grid = curves[(curves.grid == grid) & curves.method.map(is_ranked)]
        by_method = {str(method): mine for method, mine in of_grid.groupby("method", sort=False)}
        measures = (
            {m: areas(mine, BALANCED) for m, mine in by_method.items()},
            {m: last_round(mine) for m, mine in by_method.items()},
        )
        apart = [gaps(measure, BASELINE) for measure in measures]
        ps = [holm_ps(gap) for gap in apart]
        for method in apart[0]:
            texts = [
                f"{signed_points(gap[method])} ({p_text(p.get(method, 1.0))})" for gap, p in zip(apart, ps, strict=True)
            ]
            cells.setdefault(method, {})[grid] = ", ".join(texts)
    lines = head("method", *(f"`{grid}`" for grid in grids))
    return [*lines, *(row(shown(method), *(found.get(grid, "") for grid in grids)) for method, found in cells.items())]


def alone(curves: pd.DataFrame, published: pd.DataFrame) -> list[str]:
    """A row per setting: training on the validation images alone, and the best method's last round beside it."""
    lines = head("setting", "seeds", f"`{ALONE}`", "best method, last round", "", f"`{ALONE}` - it")
    for grid in dict.fromkeys(curves.grid):
        of_grid = curves[curves.grid == grid]
        mine = last_round(of_grid[of_grid.method == ALONE])
        others = {m: last_round(rows) for m, rows in of_grid.groupby("method") if is_ranked(m)}
        gap = gaps({**others, ALONE: mine}, ALONE)
        if gap:
            best = max(gap, key=lambda method: float(gap[method].mean()))
            common = of_grid[(of_grid.method == ALONE) & of_grid.seed.isin(gap[best].index)]
            cells = (seeds(common), points(mine[gap[best].index]), shown(best), points(others[best][gap[best].index]))
            lines.append(row(f"`{grid}`", *cells, signed_points(-gap[best])))
    return lines


def last_round(curves: pd.DataFrame) -> pd.Series:
    """Balanced accuracy after the last label, in points, by seed."""
    return 100 * curves[curves.b == curves.b.max()].set_index("seed")[BALANCED]


def standing(method: str, of_methods: Mapping[str, pd.Series]) -> Standing | None:
    """None where the method has too few seeds in common with any other one."""
    apart = {other: -gap for other, gap in gaps(of_methods, method).items()}
    if not apart:
        return None
    ps = holm_ps(apart)
    other = min(apart, key=lambda name: float(apart[name].mean()))
    is_behind = any(gap.mean() < 0 and ps.get(name, 1.0) < ALPHA for name, gap in apart.items())
    return Standing(of_methods[method], other, apart[other], ps.get(other, 1.0), is_behind)
