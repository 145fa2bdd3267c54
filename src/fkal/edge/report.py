"""`fkal report`: published experiments side by side, as figures and tables."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import typer
from rich.console import Console

from fkal.config import ConfigError
from fkal.edge.curves import ACCURACY
from fkal.edge.outcomes import Outcome, by_cell
from fkal.edge.planning import PLAN
from fkal.edge.publishing import curves_of, outcome_of, published
from fkal.edge.running import WIDTH, all_labels, draw
from fkal.edge.tables import accuracy_table
from fkal.files import write_whole


def report(root: Path, to: Path) -> None:
    """Write the curves of each dataset and bias as a figure and CSV, and accuracy.csv with mean and spread of all.

    The cells are those of the plan under `root`. Raises ConfigError if none of them is published.
    """
    cells = [_cell(path) for path in sorted((root / PLAN).glob("*/methods/*.yaml"))]
    outcomes = [outcome_of(one) for one in published(root, cells)]
    if not outcomes:
        raise ConfigError(f"nothing is published under {root}; run: dvc repro")
    to.mkdir(parents=True, exist_ok=True)
    write_whole(to / "accuracy.csv", spread(outcomes).to_csv(index=False).encode())
    console = Console(width=WIDTH)
    for group, members in by_cell(outcomes).items():
        console.print(accuracy_table(group, members))
        typer.echo(f"curve: {draw(group, members, to, all_labels(group, outcomes))}")


def spread(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a curve (dataset, bias, method) and number of labels: mean test accuracy and one deviation around it."""
    frame = curves_of(outcomes)
    frame["curve"] = frame["dataset"] + " " + frame["bias"] + " " + frame["method"]
    found = frame.groupby(["curve", "dataset", "bias", "method", "labels_used"], sort=False)[ACCURACY]
    table = found.agg(accuracy="mean", std="std", seeds="count").reset_index()
    table["low"] = table["accuracy"] - table["std"].fillna(0)
    table["high"] = table["accuracy"] + table["std"].fillna(0)
    return table


def _cell(plan: Path) -> str:
    """`mnist-100-pfk_joint` of `mnist-100/methods/pfk_joint.yaml`."""
    return f"{plan.parent.parent.name}-{plan.stem}"
