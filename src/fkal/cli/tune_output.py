"""What `fkal tune` prints: its plan, what a study found, and what was applied."""

import json

import yaml
from optuna.trial import TrialState
from rich import box
from rich.table import Table

from fkal.cli.run_plan import UNKNOWN
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.redaction import redacted
from fkal.tracking.ui import ui_command, ui_hint
from fkal.tuning.results import Findings, best_rows
from fkal.tuning.study import finished_count
from fkal.tuning.tune import StudyPlan, Tuned, TuneOptions
from fkal.tuning.tuned_result import apply_command


def print_tuned(tuned: Tuned, *, as_json: bool) -> None:
    """The best trials, and where their values are."""
    findings, path, uri = tuned.findings, tuned.path, tuned.tracking_uri
    if as_json:
        answer = {
            **findings.as_json,
            "tuned": str(path),
            "applied": tuned.is_applied,
            "without_effect": tuned.overridden_settings,
            "run_id": tuned.run_id,
            "tracking_uri": redacted(uri),
        }
        echo_json(answer)
        return
    console(piped=WIDTH).print(_table(findings))
    pruned, failed = findings.count(TrialState.PRUNED), len(findings.failed)
    echo(f"{findings.count(TrialState.COMPLETE)} trials complete, {pruned} pruned, {failed} failed")
    if findings.is_default:
        echo("the best trial is the configured one: nothing that was tried is better, and the result changes nothing")
    echo(f"tuned: {path} ({'applied' if tuned.is_applied else f'not applied yet: {apply_command(path)}'})")
    for each in tuned.overridden_settings:
        echo(f"  {each}")
    echo(f"look at the study: {ui_command(uri)}{ui_hint(uri)}")


def _table(findings: Findings) -> Table:
    """The best trials, or the Pareto front of two objectives, each beside the configured values."""
    plan = findings.plan
    what = "Pareto front" if len(plan.objectives) > 1 else "best trials"
    seeds = ", ".join(map(str, plan.seeds))
    table = Table(title=f"{plan.name}: {what}, mean of seeds {seeds}", box=box.SIMPLE)
    for column in ("trial", *(objective.title for objective in plan.objectives)):
        table.add_column(column, justify="right")
    for column in ("default", "parameters", "seconds"):
        table.add_column(column, justify="left" if column == "parameters" else "right")
    for row in best_rows(findings):
        table.add_row(*row)
    return table


def print_study_plan(planned: StudyPlan, options: TuneOptions, *, as_json: bool) -> None:
    """What would be searched, and how many trials are left."""
    plan = planned.spec
    finished = finished_count(options.storage, plan) if planned.is_known else 0
    answer = {
        "study": plan.name if planned.is_known else None,
        "objective": plan.objective,
        "seeds": list(plan.seeds),
        "holdout": plan.base.holdout,
        "space": {name: json.loads(text) for name, text in plan.space.described.items()},
        "trials": options.trials,
        "finished": finished,
        "planned": max(0, options.trials - finished),
    }
    if as_json:
        echo_json({"plan": {**answer, "config": plan.base.tree}})
        return
    space = {name: str(each) for name, each in plan.space.distributions.items()}
    answer["study"] = answer["study"] or UNKNOWN
    echo(yaml.safe_dump({"config": plan.base.tree, **answer, "space": space}, sort_keys=False))
