"""`fkal run` and `fkal cost`: options and help."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exclusive_options import refuse_beside_plan, refuse_beside_project, refuse_beside_torchrun
from fkal.cli.executor_options import ExecutorOptions
from fkal.cli.exit import cli_errors
from fkal.cli.options import (
    Debug,
    DryRun,
    Json,
    Method,
    Out,
    PlanFile,
    Seeds,
    Settings,
    Tracking,
    Untuned,
    Verify,
    expanded,
)

if TYPE_CHECKING:
    from fkal.config.schema import Config
    from fkal.notify import Display
    from fkal.runner.plan import RayCluster
    from fkal.runner.run import Finished

RUN_EXAMPLES = (
    "Examples:\n\n    fkal run\n\n"
    "    fkal run --preset mnist --method random,pfk_joint --seeds 0-4\n\n"
    "    fkal run --preset mnist --set bias.ratio=1 --set acquisition.combine=sum\n\n"
    "    fkal run --preset mnist --method random,pfk_joint --seeds 0-9 --shard 0/4\n\n"
    "    fkal run --preset mnist --method random,pfk_joint --seeds 0-9 --executor ray --ray-address auto\n\n"
    "    fkal run --project my-project --truth labels.csv --method random,weighted_coverage"
)


@expanded
def run(
    context: typer.Context,
    settings: Settings,
    executor: ExecutorOptions,
    method: Method = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    tracking_uri: Tracking = None,
    plan: PlanFile = None,
    project: Annotated[
        Path | None, typer.Option(help="A project: its rounds with labels of --truth in the place of people.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="With --project: a table with the columns path and label of its images.")
    ] = None,
    jobs: Annotated[
        int, typer.Option(envvar="FKAL_JOBS", help="Experiments at work at once, each in a process of its own.")
    ] = 1,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Every N-th experiment from the I-th on, counted from 0: 0/4.")
    ] = None,
    untuned: Untuned = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once where another process works on the same experiment.")
    ] = False,
    verify: Verify = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run active-learning experiments, each round a tracked MLflow run.

    One experiment for each method and seed. Finished rounds are kept under --out: the same
    command goes on where it was stopped, and does nothing once all is done. What another process
    works on is waited for.
    """
    with cli_errors(debug):
        from fkal.runner import expand as configuring
        from fkal.runner.shards import in_shard

        refuse_beside_torchrun(context, jobs)
        cluster = executor.cluster()
        if plan is not None:
            refuse_beside_plan(context)
            _run_stage(plan, out, tracking_uri, jobs, cluster=cluster, wait=not no_wait)
            return
        if project is not None or truth is not None:
            refuse_beside_project(context)
            from fkal.cli import project as projects

            projects.simulate(
                project, truth, method=method, seeds=seeds, assignments=settings.assignments, as_json=as_json
            )
            return
        sources = settings.sources(untuned=untuned, out=out, verify=verify)
        configs = in_shard(configuring.experiments(sources, method, seeds), shard)
        from fkal.cli.progress import round_display

        display = round_display(as_json=as_json)
        if dry_run:
            from fkal.cli.run_plan import show_plan

            show_plan(
                configs,
                out=out,
                tracking=tracking_uri,
                jobs=jobs,
                cluster=cluster,
                notify=display.notify,
                as_json=as_json,
                verify=verify,
            )
            return
        finished = _run_together(
            configs, out=out, tracking=tracking_uri, jobs=jobs, cluster=cluster, wait=not no_wait, display=display
        )
        if finished is not None:
            from fkal.cli.run_output import print_finished

            print_finished(finished, as_json=as_json)


def _run_stage(
    plan: Path, out: Path, tracking: str | None, jobs: int, *, cluster: "RayCluster | None", wait: bool
) -> None:
    """The experiments of a stage of the pipeline."""
    from fkal.cli.progress import round_display
    from fkal.cli.run_output import print_finished
    from fkal.pipeline import stages

    display = round_display(as_json=False)
    staged = stages.experiment(plan, out, tracking, jobs, cluster=cluster, wait=wait, display=display)
    print_finished(staged, as_json=False)


def _run_together(
    configs: "Sequence[Config]",
    *,
    out: Path,
    tracking: str | None,
    jobs: int,
    cluster: "RayCluster | None",
    wait: bool,
    display: "Display",
) -> "Finished | None":
    """By all processes that torchrun started, of which the first one leads; None in the others."""
    from fkal.runner import run as running
    from fkal.runner import together

    with together.joined() as processes:
        if not processes.leads:
            together.follow(out)
            return None
        together.notify_of_whole_batches(configs, display.notify)
        return running.run(configs, out=out, tracking=tracking, jobs=jobs, cluster=cluster, wait=wait, display=display)


COST_EXAMPLES = (
    "Examples:\n\n    fkal cost --preset mnist --method random,pfk_joint,pfk_trace:k128\n\n"
    "    fkal cost --preset svhn --method varr:e4:k16,vaal --json"
)


@expanded
def cost(
    settings: Settings,
    method: Method = None,
    seeds: Seeds = None,
    untuned: Untuned = False,
    out: Out = Path("runs"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Forward and backward passes: Table 1 of the paper beside what was counted.

    What was not run yet is predicted, from the configuration alone. Counts are those that `fkal run`
    left under --out, and the ratio is counted to Table 1; where they are not what the method should
    cost, the exit code is 1. Pretraining, which methods share, is no part of it.
    """
    with cli_errors(debug):
        from fkal.runner import expand as configuring

        sources = settings.sources(untuned=untuned, out=out)
        configs = configuring.experiments(sources, method, seeds)
        from fkal.cli import cost as costs

        run = costs.run_command(sources, method, seeds, out)
        costs.show(configs, out=out, run=run, as_json=as_json)
