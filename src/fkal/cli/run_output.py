"""What `fkal run` prints: its plan, and at the end the accuracies and where to look."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from fkal.cli.tables import accuracy_table, plan_table
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.experiment.names import bias_name, dataset_name, experiment_name, shown_name
from fkal.redaction import redacted
from fkal.results.checkpoint import Checkpoint
from fkal.results.outcome import Outcome, by_cell, distinctions
from fkal.runner.run import Finished, PlannedRun
from fkal.tracking.ui import ui_command, ui_hint

UNKNOWN = "unknown until the data are here"


def print_finished(finished: Finished, *, as_json: bool) -> None:
    """Raises SomeFailed, once the others are shown, where experiments failed."""
    if finished.outcomes:
        _print_outcomes(finished, as_json=as_json)
    finished.refuse_failures()


def _print_outcomes(finished: Finished, *, as_json: bool) -> None:
    uri = finished.outcomes[0].tracking_uri
    figures = [str(path) for path in finished.figures]
    if as_json:
        experiments = [_as_json(outcome) for outcome in finished.outcomes]
        echo_json({"experiments": experiments, "figures": figures, "ui": ui_command(uri)})
        return
    screen = console(piped=WIDTH)
    groups = by_cell(finished.outcomes)
    differs = distinctions(list(groups))
    for group, members in groups.items():
        screen.print(accuracy_table(group, members, differs[group]))
    for figure in figures:
        echo(f"curve: {figure} (numbers beside it as .csv)")
    echo(f"compare the methods in MLflow: {ui_command(uri)}{ui_hint(uri)}")


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.name,
        "dataset": dataset_name(outcome.config.data),
        "bias": bias_name(outcome.config.bias),
        "method": outcome.method,
        "seed": outcome.config.seed,
        "protocol": outcome.config.protocol,
        "fingerprint": outcome.fingerprint,
        "split_digest": outcome.split_digest,
        "data_digest": outcome.data_digest,
        "run_id": outcome.run_id,
        "tracking_uri": redacted(outcome.tracking_uri),
        "rounds": [
            {"b": r.b, "labels_used": r.labels_used, "selected": r.selection.indices.tolist(), **r.metrics}
            for r in outcome.rounds
        ],
    }


def print_plan(planned: Sequence[PlannedRun], out: Path, *, as_json: bool) -> None:
    """The experiments that would run, and how far each is."""
    plans = [
        {
            "name": experiment_name(plan.config),
            "fingerprint": plan.fingerprint,
            "iterations": plan.rounds,
            "finished": 0 if plan.fingerprint is None else Checkpoint(out, plan.fingerprint).finished_count,
            "labels": plan.budget * plan.rounds,
            "config": plan.config.tree,
        }
        for plan in planned
    ]
    if as_json:
        echo_json({"plan": plans})
        return
    echo(yaml.safe_dump(plans[0]["config"], sort_keys=False))
    named = [
        {**shown, "name": shown_name(plan.config), "fingerprint": plan.fingerprint or UNKNOWN}
        for shown, plan in zip(plans, planned, strict=True)
    ]
    console(piped=WIDTH).print(plan_table(named))
