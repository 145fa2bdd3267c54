"""`fkal cost`: Table 1 of the paper beside the passes that were counted, or what an experiment is going to cost."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from fkal.acquisition.cost import Cost
from fkal.cli.exit import FAILED
from fkal.cli.tables import cost_table
from fkal.cli.terminal import WIDTH, complain, console, echo, echo_json, say
from fkal.config.method_spec import with_alias
from fkal.config.schema import Config
from fkal.experiment.experiment import prepare
from fkal.runner.cost import CostReport, Figures, Iteration, bill_of
from fkal.runner.expand import Sources
from fkal.runner.out_folder import refuse_no_folder

DIFFER = "counted passes differ from what this method should cost"


def show(configs: Sequence[Config], *, out: Path, run: str, as_json: bool) -> None:
    """Print each experiment's costs; `run` is the command that runs them.

    Raises typer.Exit(1) where the passes that were counted are not those that the method costs.
    """
    refuse_no_folder(out)
    bills = billed(configs, out)
    unfinished = [bill.name for bill in bills if bill.finished < len(bill.iterations)]
    if as_json:
        told = {"experiments": [_as_json(bill) for bill in bills], "run": run if unfinished else None}
        echo_json(told)
    else:
        for bill in bills:
            _print(bill)
        if unfinished:
            echo(f"{len(unfinished)} of {len(bills)} not finished; this runs what is left: {run}")
    differences = [line for bill in bills for line in bill.differences]
    if differences:
        for line in (DIFFER, *differences):
            complain(f"error: {line}")
        raise typer.Exit(FAILED)


def run_command(sources: Sources, methods: str | None, seeds: str | None, out: Path) -> str:
    """The `fkal run` of the same options."""
    options = {
        "--preset": sources.preset,
        "--params": sources.params,
        "--dataset": sources.dataset,
        "--ratio": sources.ratio,
        "--data-root": sources.data_root,
        "--method": methods,
        "--seeds": seeds,
        "--out": out,
    }
    words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
    words += sources.start.words
    words += [word for assignment in sources.assignments for word in ("--set", assignment)]
    words += ["--untuned"] if sources.tuned is None else []
    return shlex.join(["fkal", "run", *words])


def billed(configs: Sequence[Config], out: Path) -> list[CostReport]:
    """A bill an experiment, which several names may mean."""
    bills: dict[str, CostReport] = {}
    for config in configs:
        experiment = prepare(config, out, say, looks_only=True)
        bills[experiment.fingerprint] = bill_of(experiment, out, say)
    return list(bills.values())


def _print(bill: CostReport) -> None:
    letters = ", ".join(f"{letter} = {_value(value)}" for letter, value in bill.letters.items())
    echo(f"{with_alias(bill.name, bill.method)}: {_progress(bill)}")
    echo(f"  Table 1: {_table_1(bill.cost)}, training {bill.cost.training.text}")
    echo(f"  expected here: acquisition {bill.cost.text}, evaluation {bill.evaluation.text}, with {letters}")
    console(piped=WIDTH).print(cost_table(bill))
    echo(f"  {DIFFER if bill.differences else '; '.join(bill.notes)}\n")


def _table_1(cost: Cost) -> str:
    return f"row {cost.row}, acquisition {cost.printed.text}" if cost.printed else "no row for the acquisition"


def _value(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _progress(bill: CostReport) -> str:
    if not bill.finished:
        return "not run yet, a prediction"
    return f"{bill.finished} of {len(bill.iterations)} rounds finished"


def _as_json(bill: CostReport) -> dict[str, Any]:
    printed = bill.cost.printed
    return {
        "name": bill.name,
        "method": bill.method,
        "seed": bill.seed,
        "fingerprint": bill.fingerprint,
        "table_1": {
            "row": bill.cost.row,
            "acquisition": printed.text if printed else None,
            "training": bill.cost.training.text,
        },
        "expected": {"acquisition": bill.cost.text, "evaluation": bill.evaluation.text},
        "letters": bill.letters,
        "iterations": len(bill.iterations),
        "finished": bill.finished,
        "rounds": [_iteration_as_json(each) for each in bill.iterations],
        "so_far": _figures_as_json(bill.so_far) if bill.so_far else None,
        "total": _figures_as_json(bill.total),
        "notes": list(bill.notes),
        "differences": bill.differences,
    }


def _iteration_as_json(each: Iteration) -> dict[str, Any]:
    sizes = {"b": each.b, "unlabeled": each.sizes.unlabeled, "labeled": each.sizes.labeled}
    return {**sizes, **_figures_as_json(each.figures)}


def _figures_as_json(figures: Figures) -> dict[str, Any]:
    return {
        phase: {
            "table_1": figure.table_1,
            "expected": figure.expected._asdict(),
            "counted": None if figure.counted is None else figure.counted._asdict(),
            "ratio": figure.ratio,
        }
        for phase, figure in figures.items()
    }
