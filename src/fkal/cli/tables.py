"""Tables for a terminal: accuracy by round, mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from fkal.acquisition.cost import Passes
from fkal.config.method_spec import short_method_name
from fkal.engine.measured import part_word
from fkal.results.outcome import Group, Outcome

if TYPE_CHECKING:
    from fkal.labeling.simulating import Simulated
    from fkal.runner.cost import CostReport, Figures

LAST = {"balanced": "macro_accuracy", "rare": "minority_accuracy"}
"""What is shown of the last round beside the accuracy of all."""


def accuracy_table(group: Group, outcomes: Sequence[Outcome], distinction: str = "") -> Table:
    """Accuracy on what is measured, %: a row per method, a column per round."""
    rounds = max(len(outcome.rounds) for outcome in outcomes)
    epoch = "of the last epoch" if group.protocol == "last" else "of the epoch that is best ON THE TEST SET"
    title = f"{group.dataset}, {group.bias}{distinction}: {group.measured} accuracy (%) {epoch}, mean ± std over seeds"
    table = Table(title=title, box=box.SIMPLE)
    table.add_column("method", no_wrap=True)
    table.add_column("seeds", justify="right")
    for b in range(1, rounds + 1):
        table.add_column(f"b={b}\n{b * group.budget}", justify="right", no_wrap=True)
    last = {
        name: score
        for name, score in LAST.items()
        if any(f"{group.measured}/{score}" in o.rounds[-1].metrics for o in outcomes)
    }
    for name in last:
        table.add_column(f"{name}\nlast", justify="right", no_wrap=True)
    for method, members in _by_method(outcomes).items():
        cells = [
            _spread([100 * o.rounds[b].metrics[f"{group.measured}/accuracy"] for o in members if b < len(o.rounds)])
            for b in range(rounds)
        ]
        ends = [o.rounds[-1].metrics for o in members]
        scores = [
            [100 * end[f"{group.measured}/{s}"] for end in ends if f"{group.measured}/{s}" in end]
            for s in last.values()
        ]
        table.add_row(short_method_name(method), str(len(members)), *cells, *map(_spread, scores))
    return table


def simulated_table(found: Sequence[Simulated]) -> Table:
    """The same of a project's simulated rounds; a head has the labels of the first experiment with most rounds."""
    longest = max(found, key=lambda each: len(each.rounds)).rounds
    measured = longest[0].measured
    table = Table(title=f"{part_word(measured)} accuracy (%), mean ± std over seeds", box=box.SIMPLE)
    table.add_column("method", no_wrap=True)
    for name in ("seeds", *(f"b={each.b}\n{each.labels_used:,}" for each in longest), "balanced\nlast"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in dict.fromkeys(each.method for each in found):
        mine = [each.rounds for each in found if each.method == method]
        cells = [
            _spread([100 * rounds[place].metrics[f"{measured}/accuracy"] for rounds in mine if place < len(rounds)])
            for place in range(len(longest))
        ]
        ends = [100 * rounds[-1].metrics[f"{measured}/macro_accuracy"] for rounds in mine]
        table.add_row(method, str(len(mine)), *cells, _spread(ends))
    return table


def plan_table(plans: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("experiment", "fingerprint", "rounds", "finished", "labels"):
        table.add_column(title, no_wrap=True)
    for plan in plans:
        keys = ("name", "fingerprint", "iterations", "finished", "labels")
        table.add_row(*(str(plan[key]) for key in keys))
    return table


def cost_table(bill: CostReport) -> Table:
    """Passes, forward and backward together: a row per round, and their sum; ratios are counted to Table 1."""
    table = Table(box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    for title in ("b", "N^b", "N_b", *COST_COLUMNS):
        table.add_column(title, justify="right", no_wrap=True)
    for each in bill.iterations:
        sizes = each.sizes
        table.add_row(str(each.b), f"{sizes.unlabeled:,}", f"{sizes.labeled:,}", *_cost_cells(each.figures))
    table.add_section()
    if bill.so_far:
        table.add_row("so far", "", "", *_cost_cells(bill.so_far))
    table.add_row("total", "", "", *_cost_cells(bill.total))
    return table


COST_COLUMNS = (
    "acquisition\nTable 1",
    "\nexpected",
    "\ncounted",
    "\nratio",
    "training\nTable 1",
    "\ncounted",
    "\nratio",
    "evaluation\nexpected",
    "\ncounted",
)


def _cost_cells(figures: Figures) -> list[str]:
    acquisition, training, evaluation = (figures[phase] for phase in ("acquisition", "training", "evaluation"))
    return [
        _whole(acquisition.table_1),
        _whole(acquisition.expected.total),
        _total(acquisition.counted),
        _ratio(acquisition.ratio),
        _whole(training.table_1),
        _total(training.counted),
        _ratio(training.ratio),
        _whole(evaluation.expected.total),
        _total(evaluation.counted),
    ]


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _total(passes: Passes | None) -> str:
    return _whole(passes and passes.total)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _by_method(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    methods: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        methods.setdefault(outcome.method, []).append(outcome)
    return methods


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{mean(values):.1f}" if values else "-"
    return f"{mean(values):.1f}±{stdev(values):.1f}"
