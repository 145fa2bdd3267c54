"""Tables for a terminal: accuracy by iteration, mean and standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.table import Table

from fkal.edge.outcomes import Group, Outcome


def accuracy_table(group: Group, outcomes: Sequence[Outcome]) -> Table:
    """Test accuracy, %: a row a method, a column an iteration."""
    rounds = max(len(outcome.rounds) for outcome in outcomes)
    epoch = "of the last epoch" if group.protocol == "last" else "of the epoch that is best ON THE TEST SET"
    table = Table(
        title=f"{group.dataset}, {group.bias}: test accuracy (%) {epoch}, mean ± std over seeds",
        box=box.SIMPLE,
    )
    table.add_column("method", no_wrap=True)
    table.add_column("seeds", justify="right")
    for b in range(1, rounds + 1):
        table.add_column(f"b={b}\n{b * group.budget}", justify="right", no_wrap=True)
    for method, members in _by_method(outcomes).items():
        cells = [
            _spread([100 * o.rounds[b].metrics["test/accuracy"] for o in members if b < len(o.rounds)])
            for b in range(rounds)
        ]
        table.add_row(method, str(len(members)), *cells)
    return table


def plan_table(plans: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE)
    for title in ("experiment", "fingerprint", "iterations", "finished", "labels"):
        table.add_column(title, no_wrap=True)
    for plan in plans:
        keys = ("name", "fingerprint", "iterations", "finished", "labels")
        table.add_row(*(str(plan[key]) for key in keys))
    return table


def _by_method(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    methods: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        methods.setdefault(outcome.method, []).append(outcome)
    return methods


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{mean(values):.1f}" if values else "-"
    return f"{mean(values):.1f}±{stdev(values):.1f}"
