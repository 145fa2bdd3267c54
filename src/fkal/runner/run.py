"""`fkal run`: experiments one after another, each kept, tracked and, at the end, put side by side."""

import io
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from torch import get_num_threads

from fkal.atomic_files import write_whole
from fkal.cli.exit import SomeFailed, ends_all
from fkal.cli.tables import accuracy_table, plan_table
from fkal.cli.terminal import WIDTH, console, echo, echo_json, say
from fkal.config.schema import Config, ConfigError, digest_of
from fkal.experiment.device import device_named
from fkal.experiment.experiment import prepare
from fkal.experiment.names import bias_name, dataset_name, experiment_name
from fkal.folders import below
from fkal.redaction import redacted
from fkal.results.checkpoint import StateDirectory
from fkal.results.csv_files import csv_bytes
from fkal.results.curves import curve_frame
from fkal.results.outcome import Group, Outcome, by_cell, distinctions
from fkal.runner.executors import side_by_side, spread
from fkal.runner.prepare import refuse_unusable
from fkal.runner.single import run_one
from fkal.tracking.store import StoreError, prepare_store, tracking_uri
from fkal.tracking.ui import ui_command, ui_hint

MOST_JOBS = 1024

if TYPE_CHECKING:
    from mlflow import MlflowClient


def run(
    configs: Sequence[Config],
    *,
    out: Path,
    tracking: str | None,
    dry_run: bool = False,
    as_json: bool = False,
    jobs: int = 1,
    draws: bool = True,
    wait: bool = True,
) -> list[Outcome]:
    """Run what is not finished yet, then print accuracy by iteration and, with `draws`, draw the curves.

    Everything that can be is checked before anything runs. With `wait`, experiments that another process
    works on are waited for. Raises SomeFailed when one of several fails while running.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise ConfigError(f"--jobs {jobs}: give 1 to {MOST_JOBS} experiments to be at work at once")
    uri = tracking_uri(tracking, Path.cwd())
    refuse_unusable(out)
    planned = _distinct(configs, out)
    if dry_run:
        _show_plan(planned, out, as_json)
        return []
    client = prepare_store(uri, say)
    outcomes: dict[int, Outcome] = {}
    failures: dict[int, str] = {}
    with closing(_ended(planned, out, tracking, jobs=jobs, wait=wait)) as ended:
        for place, result in ended:
            if isinstance(result, Outcome):
                outcomes[place] = result
                put_under_method(client, result.run_id)
                continue
            if len(planned) == 1 or ends_all(result):
                raise result
            failures[place] = f"{experiment_name(planned[place].config)}: {redacted(str(result))}"
            say(f"failed: {failures[place]}")
    if outcomes:
        _show([outcomes[place] for place in sorted(outcomes)], out, as_json=as_json, draws=draws)
    if failures:
        raise SomeFailed(
            f"{len(failures)} of {len(planned)} experiments failed; the same command tries them again:\n"
            + "\n".join(failures[place] for place in sorted(failures))
        )
    return [outcomes[place] for place in sorted(outcomes)]


def put_under_method(client: "MlflowClient", run_id: str) -> None:
    """The run of the experiment's method is made again; where the store fails, it says so, and the results are kept."""
    from mlflow.exceptions import MlflowException

    from fkal.tracking.method_run import remake_method_run

    try:
        remake_method_run(client, run_id)
    except (MlflowException, StoreError) as error:
        say(f"MLflow has no mean over the seeds of run {run_id} ({error}); the same command tries again")


class _Plan(NamedTuple):
    """An experiment that was checked, without its data and model."""

    config: Config
    fingerprint: str
    rounds: int
    budget: int
    pretrained: Path


def _distinct(configs: Iterable[Config], out: Path) -> list[_Plan]:
    """Each checked, and each once, since `pfk` and `pfk_joint` may mean the same experiment."""
    known: dict[str, _Plan] = {}
    for config in configs:
        experiment = prepare(config, out, say)
        if experiment.fingerprint in known:
            say(f"{experiment_name(config)}: named twice, run once")
        plan = _Plan(config, experiment.fingerprint, experiment.rounds, experiment.budget, experiment.weights_paths[0])
        known.setdefault(experiment.fingerprint, plan)
    return list(known.values())


def _ended(
    planned: Sequence[_Plan], out: Path, tracking: str | None, *, jobs: int, wait: bool
) -> Generator[tuple[int, Outcome | Exception], None, None]:
    """Each experiment's place in the plan and its outcome, or what it failed of, as they end."""
    jobs = min(jobs, len(planned))
    if jobs > 1:
        configs = [plan.config for plan in planned]
        _say_if_crowded(configs, jobs)
        order = spread([plan.pretrained for plan in planned])  # those that share pretraining wait for the first
        yield from side_by_side(configs, order, jobs=jobs, out=out, tracking=tracking, wait=wait)
        return
    for place, plan in enumerate(planned):
        result: Outcome | Exception
        try:
            result = run_one(prepare(plan.config, out, say), out, tracking, wait=wait)
        except Exception as error:
            result = error
        yield place, result


def _say_if_crowded(configs: Sequence[Config], jobs: int) -> None:
    """The number of threads is a part of an experiment, so it is not changed in silence."""
    threads, processors = get_num_threads(), os.cpu_count() or 1
    on_cpu = any(config.threads is None and device_named(config.device).type == "cpu" for config in configs)
    if on_cpu and jobs * threads > processors:
        say(
            f"--jobs {jobs}: `threads` is not set, so each experiment takes {threads} threads, "
            f"{jobs * threads} in all on {processors} processors; `--set threads=1` is likely faster, "
            "but is another experiment: sums that are shared out otherwise differ in their last digits"
        )


def _show(outcomes: Sequence[Outcome], out: Path, *, as_json: bool, draws: bool) -> None:
    groups = by_cell(outcomes)
    drawn = groups if draws else {}
    differs = distinctions(list(groups))
    figures = [
        str(draw(group, members, out, all_labels(group, groups), differs[group])) for group, members in drawn.items()
    ]
    command = ui_command(outcomes[0].tracking_uri)
    if as_json:
        answer = {"experiments": [_as_json(o) for o in outcomes], "figures": figures, "ui": command}
        echo_json(answer)
        return
    screen = console(piped=WIDTH)
    for group, members in groups.items():
        screen.print(accuracy_table(group, members, differs[group]))
    for figure in figures:
        echo(f"curve: {figure} (numbers beside it as .csv)")
    echo(f"compare the methods in MLflow: {command}{ui_hint(outcomes[0].tracking_uri)}")


def all_labels(group: Group, groups: Mapping[Group, Sequence[Outcome]]) -> float | None:
    """Mean accuracy of the same data's experiments that labeled the whole pool, to hold the group against."""
    same = [
        members for other, members in groups.items() if other != group and other._replace(budget=group.budget) == group
    ]
    accuracy = f"{group.measured}/accuracy"
    others = [outcome for members in same for outcome in members if outcome.config.acquisition.name == "all"]
    found = [outcome.rounds[-1].metrics[accuracy] for outcome in others]
    return mean(found) if found else None


def draw(group: Group, members: Sequence[Outcome], out: Path, baseline: float | None, distinction: str = "") -> Path:
    """The curves of this call's experiments as a figure, and beside it their numbers as CSV.

    The end of the name stands for the set of experiments, so that another call keeps its own.
    """
    import pandas as pd

    from fkal.plots.curves import PAPER_TITLE, save_curve_png

    same = digest_of(sorted(outcome.fingerprint for outcome in members))[:6]
    path = below(out, f"curves/{group.slug}-{same}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[pd.DataFrame]] = {}
    for outcome in members:
        frame = curve_frame(outcome.rounds)
        frame.insert(0, "seed", outcome.config.seed)
        curves.setdefault(outcome.method, []).append(frame)
    numbers = pd.concat([f.assign(method=method) for method, frames in curves.items() for f in frames])
    numbers.insert(0, "method", numbers.pop("method"))
    about = {
        "dataset": group.dataset,
        "data": group.data,
        "bias": group.bias,
        "protocol": group.protocol,
        "holdout": group.holdout,
        "validation_per_class": group.validation_per_class,
    }
    for place, (name, value) in enumerate(about.items()):
        numbers.insert(place, name, value)
    write_whole(path.with_suffix(".csv"), csv_bytes(numbers))
    title = f"{group.dataset}, {group.bias}{distinction}"
    drawn = io.BytesIO()
    title = f"{title}\n{PAPER_TITLE}" if group.protocol == "paper" else title
    metric, label = f"{group.measured}/accuracy", f"{group.measured} accuracy, %"
    save_curve_png(drawn, curves, title, metric=metric, label=label, baseline=baseline)
    write_whole(path, drawn.getvalue())
    return path


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


def _show_plan(planned: Sequence[_Plan], out: Path, as_json: bool) -> None:
    plans = [
        {
            "name": experiment_name(plan.config),
            "fingerprint": plan.fingerprint,
            "iterations": plan.rounds,
            "finished": StateDirectory(out, plan.fingerprint).finished_count,
            "labels": plan.budget * plan.rounds,
            "config": plan.config.tree,
        }
        for plan in planned
    ]
    if as_json:
        echo_json({"plan": plans})
        return
    import yaml

    echo(yaml.safe_dump(plans[0]["config"], sort_keys=False))
    console(piped=WIDTH).print(plan_table(plans))
