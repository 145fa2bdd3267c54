"""`fkal run --dry-run`: the plan. Imports no torch where earlier runs found all of it."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from fkal.cli.tables import plan_table
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.config.schema import Config
from fkal.experiment.names import experiment_name, shown_name
from fkal.notify import Notify
from fkal.results.checkpoint import Checkpoint
from fkal.runner.plan import PlannedRun, RayCluster, remembered_runs

UNKNOWN = "unknown until the data are here"


def show_plan(
    configs: Sequence[Config],
    *,
    out: Path,
    tracking: str | None,
    jobs: int,
    cluster: RayCluster | None = None,
    notify: Notify,
    as_json: bool,
    verify: bool,
) -> None:
    """Print what `fkal run` would do. With `verify`, what was found before is found again."""
    planned = None
    if not verify:
        planned = remembered_runs(configs, out=out, tracking=tracking, jobs=jobs, cluster=cluster, notify=notify)
    if planned is None:
        from fkal.runner.run import plan_runs

        planned = plan_runs(
            configs, out=out, tracking=tracking, jobs=jobs, cluster=cluster, notify=notify, looks_only=True
        )
    print_plan(planned, out, as_json=as_json)


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
