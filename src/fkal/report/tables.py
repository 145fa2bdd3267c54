"""The methods of a panel in one table: area under the budget curve and accuracies after the last label."""

from collections.abc import Mapping, Sequence

import pandas as pd

from fkal.config.method_spec import short_method_name as shown
from fkal.plots.method_styles import Style
from fkal.report.exhibit import Exhibit, Shown
from fkal.report.figures.labels_needed import needed_figure
from fkal.report.format import MISSING, count, mean_std, p_value, percent, points, seeds_text, with_interval
from fkal.report.honest_rows import not_counted
from fkal.report.panels import Panel
from fkal.report.stats.labels_needed import needed_frame, savings_frame
from fkal.report.stats.paired_tests import TESTS, Pair, pairs, pairs_frame, penalty_matrix

MEAN = "geometric mean with the 95 % interval of its seeds where there are three or more"
SCORES = {
    "accuracy": "accuracy",
    "macro_accuracy": "balanced",
    "minority_accuracy": "rare classes",
    "worst_class_accuracy": "worst class",
}


def ranking_exhibit(panel: Panel) -> Exhibit:
    scores = [score for score in SCORES if panel.has(f"{panel.group.measured}/{score}")]
    rows, table = [], []
    for method in panel.methods:
        areas = 100 * panel.areas(method)
        last = {s: 100 * _last(panel, method, f"{panel.group.measured}/{s}") for s in scores}
        spreads = [mean_std(areas), *(mean_std(values) for values in last.values())]
        rows.append([shown(method), seeds_text(panel.of(method)["seed"]), *spreads])
        values = {"aubc": areas, **last}
        figures = {f"{name}_{what}": getattr(v, what)() for name, v in values.items() for what in ("mean", "std")}
        table.append({"method": method, "seeds": len(areas), **figures})
    head = ["method", "seeds", "AUBC, %", *(f"final {SCORES[score]}, %" for score in scores)]
    return Exhibit(
        f"ranking-{panel.name}",
        f"{panel.title}: summary",
        "AUBC is the mean accuracy over the budget (area under the curve by labels used); mean ± standard deviation."
        + _dash(rows, "not measured"),
        numbers=pd.DataFrame(table),
        shown=Shown(head, rows, left=2),
    )


def needed_exhibits(
    panel: Panel, styles: Mapping[str, Style], accuracies: Sequence[float], against: str | None = None
) -> list[Exhibit]:
    needed, savings = needed_frame(panel, accuracies), savings_frame(panel, accuracies, against)
    saved = [_saved(row) for row in savings.to_dict("records")]
    rows = []
    for method in panel.methods:
        mine = needed[needed["method"] == method].to_dict("records")
        rows.append([shown(method), *(_labels(row) for row in mine)])
    head = ["method", *(f"{percent(a)} %" for a in accuracies)]
    return [
        Exhibit(
            f"labels-{panel.name}",
            f"{panel.title}: labels needed",
            f"Interpolated between rounds; {MEAN}. ≤: the first batch is enough for a seed, and fewer labels might do. "
            + not_counted(panel)
            + _dash(rows, "no seed gets there within its budget"),
            figure=needed_figure(panel, needed, styles),
            numbers=needed,
            shown=Shown(head, rows),
            wide=True,
        ),
        Exhibit(
            f"savings-{panel.name}",
            f"{panel.title}: labels saved",
            f"Of the labels that the baseline needs, over common seeds; {MEAN}. ≥: a seed of the baseline does not get "
            "there within its budget and is held to need all of it, or the method's first batch is enough. ≤: the "
            f"baseline's first batch is enough. unknown: both hold. {not_counted(panel)}",
            numbers=savings,
            shown=Shown(["method", "baseline", "at", "fewer labels"], saved, 2),
            folded=True,
        ),
    ]


def evidence_exhibit(panel: Panel, test: str, against: str | None = None) -> Exhibit:
    found = sorted(pairs(panel, test, against), key=lambda pair: -abs(pair.difference))
    tested = sum(pair.p is not None for pair in found)
    rows = [_pair_row(pair) for pair in found]
    head = ["method", "compared with", "seeds", "difference, points", "p", "p, Holm", "what it shows"]
    return Exhibit(
        f"pairs-{panel.name}",
        f"{panel.title}: each pair",
        f"Difference of AUBC, seed by seed; {TESTS[test][0]}, two-sided, p-values corrected after Holm for "
        f"the {tested} comparisons that can be tested: the more methods a page has, the more a difference must show "
        f"(--method, --against name fewer). {_reach(found, tested, test)}" + _dash(rows, "no test applies"),
        numbers=pairs_frame(found),
        shown=Shown(head, rows, left=2),
        folded=len(found) > 10,
    )


def penalty_exhibit(panels: Sequence[Panel]) -> Exhibit:
    table = penalty_matrix(panels)
    rows = [
        [shown(str(method)), *("" if other == method else _wins(value) for other, value in row.items())]
        for method, row in table.iterrows()
    ]
    beaten = ["mean", *(MISSING if pd.isna(value) else f"{value:.2f}" for value in table.mean())]
    return Exhibit(
        "penalty",
        "Pairwise penalty matrix",
        f"How often the row's method beat the column's, in {_panels_worth(len(panels))} of rounds (paired t-test "
        "in each round, 95 %); · : never. The last row is how often a method was beaten, on average over those it "
        "was compared with: lower is better."
        + _dash([*rows, beaten], "no panel has two seeds of both, so that nothing can be concluded"),
        numbers=table.rename_axis("method").reset_index(),
        shown=Shown(["", *map(shown, table.columns)], [*rows, beaten]),
        wide=True,
    )


def _dash(rows: Sequence[Sequence[str]], means: str) -> str:
    """What the dash of a table stands for, where there is one."""
    return f" {MISSING}: {means}." if any(MISSING in row for row in rows) else ""


def _panels_worth(n: int) -> str:
    return "one panel's worth" if n == 1 else f"{n} panels' worth"


def _labels(row: dict[str, float]) -> str:
    if row["reached_by"] < row["seeds"]:
        return f"{row['reached_by']:.0f} of {row['seeds']:.0f} seeds get there" if row["reached_by"] else MISSING
    bound = "≤ " if row["at_most"] else ""
    return bound + with_interval(row["labels"], row["low"], row["high"], count)


def _saved(row: dict[str, float]) -> list[str]:
    named = [shown(str(row["method"])), shown(str(row["baseline"])), f"{percent(row['accuracy'])} %"]
    if pd.isna(row["saving"]):
        return [*named, "unknown"]
    bound = "≥ " if row["at_least"] else "≤ " if row["at_most"] else ""
    return [*named, bound + with_interval(row["saving"], row["low"], row["high"], lambda part: f"{100 * part:.0f} %")]


def _pair_row(pair: Pair) -> list[str]:
    return [
        shown(pair.first),
        shown(pair.second),
        str(pair.seeds),
        points(pair.difference, pair.std),
        p_value(pair.p),
        p_value(pair.adjusted),
        pair.verdict,
    ]


def _last(panel: Panel, method: str, metric: str) -> pd.Series:
    """By seed, after the last label; missing where the method has no such metric."""
    table = panel.by_seed(method, metric)
    return table.iloc[-1] if len(table) else pd.Series([float("nan")])


def _wins(value: float) -> str:
    if pd.isna(value):
        return MISSING
    return f"{value:.1f}" if value else "·"


def _reach(found: Sequence[Pair], tested: int, test: str) -> str:
    """What the test cannot show with so few seeds."""
    most = max((pair.seeds for pair in found), default=0)
    if test != "wilcoxon" or most < 2 or 2 ** (1 - most) * tested < 0.05:
        return ""
    return f"With {most} seeds its smallest p is {2.0 ** (1 - most):.3g}, so that here it can show nothing."
