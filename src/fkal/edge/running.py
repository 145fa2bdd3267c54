"""`fkal run`: experiments one after another, each kept, tracked and, at the end, put side by side."""

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import typer
from rich.console import Console

from fkal.config import Config, digest_of
from fkal.edge.answers import SomeFailed, is_wrong
from fkal.edge.outcomes import Group, Outcome, by_cell, group_of
from fkal.edge.preparing import refuse_unusable
from fkal.edge.progress import Bars, say
from fkal.edge.state import StateDirectory
from fkal.edge.store import prepare_store, tracking_uri
from fkal.edge.tables import accuracy_table, plan_table
from fkal.edge.ui import ui_command
from fkal.engine.rounds import Round
from fkal.experiment import Experiment, prepare
from fkal.files import write_whole
from fkal.identity import bias_name, experiment_name

if TYPE_CHECKING:
    from fkal.edge.tracking import TrackedRun


WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""


def run(configs: Sequence[Config], *, out: Path, tracking: str | None, dry_run: bool, as_json: bool) -> None:
    """Run what is not finished yet, then print accuracy by iteration and draw the curves.

    Everything that can be is checked before anything runs. Raises SomeFailed when one of several
    fails while running.
    """
    refuse_unusable(out)
    planned = _distinct(configs, out)
    if dry_run:
        _show_plan(planned, out, as_json)
        return
    distinct = [plan.config for plan in planned]
    prepare_store(tracking_uri(tracking, Path.cwd()))
    outcomes, failures = [], []
    for config in distinct:
        try:
            outcomes.append(run_one(prepare(config, out, say), out, tracking))
        except Exception as error:
            if len(distinct) == 1 or is_wrong(error):
                raise
            failures.append(f"{experiment_name(config)}: {error}")
            say(f"failed: {failures[-1]}")
    if outcomes:
        _show(outcomes, out, as_json)
    if failures:
        raise SomeFailed(
            f"{len(failures)} of {len(distinct)} experiments failed; the same command tries them again:\n"
            + "\n".join(failures)
        )


class _Plan(NamedTuple):
    """An experiment that was checked, without its data and model."""

    config: Config
    fingerprint: str
    rounds: int
    budget: int


def _distinct(configs: Iterable[Config], out: Path) -> list[_Plan]:
    """Each checked, and each once, since `pfk` and `pfk_joint` may mean the same experiment."""
    known: dict[str, _Plan] = {}
    for config in configs:
        experiment = prepare(config, out, say)
        if experiment.fingerprint in known:
            say(f"{experiment_name(config)}: named twice, run once")
        plan = _Plan(config, experiment.fingerprint, experiment.rounds, experiment.budget)
        known.setdefault(experiment.fingerprint, plan)
    return list(known.values())


def run_one(experiment: Experiment, out: Path, tracking: str | None) -> Outcome:
    """Bring one experiment to its end, from wherever it stands.

    An iteration is on disk before it is tracked; what a kill kept from the store is logged
    first thing next time.
    """
    from fkal.edge.tracking import TrackedRun

    with StateDirectory(out, experiment.fingerprint) as state:
        rounds = state.rounds(say)
        was_finished = state.is_finished
        with TrackedRun.open(experiment, state, uri=tracking, say=say, monitor=not was_finished) as tracked:
            tracked.replay(rounds)
            if len(rounds) < experiment.rounds:
                if rounds:
                    say(f"{experiment.name}: going on after iteration {len(rounds)} of {experiment.rounds}")
                rounds += _worked(experiment, rounds, state, tracked)
            tracked.finish()
            state.finish()
        if was_finished:
            say(f"{experiment.name}: finished before, nothing to do")
        return Outcome(
            config=experiment.config,
            fingerprint=experiment.fingerprint,
            split_digest=experiment.split.digest,
            rounds=tuple(replace(each, weights={}) for each in rounds),
            run_id=tracked.run_id,
            tracking_uri=tracking_uri(tracking, Path.cwd()),
        )


def _worked(
    experiment: Experiment, finished: Sequence[Round], state: StateDirectory, tracked: "TrackedRun"
) -> list[Round]:
    new = []
    with Bars(experiment.name, iterations=experiment.rounds, done=len(finished)) as bars:
        for event in experiment.events(finished):
            if isinstance(event, Round):
                state.add(event)
                tracked.log(event)
                new.append(event)
                bars.advance()
            else:
                bars.show(event)
    return new


def _show(outcomes: Sequence[Outcome], out: Path, as_json: bool) -> None:
    groups = by_cell(outcomes)
    figures = [str(_draw(group, members, out, _all_labels(group, outcomes))) for group, members in groups.items()]
    command = ui_command(outcomes[0].tracking_uri)
    if as_json:
        answer = {"experiments": [_as_json(o) for o in outcomes], "figures": figures, "ui": command}
        typer.echo(json.dumps(answer))
        return
    console = Console(width=None if os.isatty(1) else WIDTH)
    for (group, members), figure in zip(groups.items(), figures, strict=True):
        console.print(accuracy_table(group, members))
        typer.echo(f"curve: {figure} (numbers beside it as .csv)")
    typer.echo(f"look at the runs: {command}")


def _all_labels(group: Group, outcomes: Sequence[Outcome]) -> float | None:
    """Mean accuracy of the same data's experiments that labeled the whole pool, to hold the group against."""
    others = [o for o in outcomes if o.config.acquisition.name == "all" and group_of(o)[:3] == group[:3]]
    accuracy = f"{group.measured}/accuracy"
    found = [outcome.rounds[-1].metrics[accuracy] for outcome in others if group_of(outcome) != group]
    return mean(found) if found else None


def _draw(group: Group, members: Sequence[Outcome], out: Path, baseline: float | None) -> Path:
    """The curves of this call's experiments as a figure, and beside it their numbers as CSV.

    The end of the name stands for the set of experiments, so that another call keeps its own.
    """
    import pandas as pd

    from fkal.edge.curves import PAPER_TITLE, curve_frame, save_curve_png

    same = digest_of(sorted(outcome.fingerprint for outcome in members))[:6]
    path = out / "curves" / f"{group.slug}-{same}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[pd.DataFrame]] = {}
    for outcome in members:
        frame = curve_frame(outcome.rounds)
        frame.insert(0, "seed", outcome.config.seed)
        curves.setdefault(outcome.method, []).append(frame)
    numbers = pd.concat([f.assign(method=method) for method, frames in curves.items() for f in frames])
    numbers.insert(0, "method", numbers.pop("method"))
    about = {"dataset": group.dataset, "bias": group.bias, "protocol": group.protocol}
    for place, (name, value) in enumerate(about.items()):
        numbers.insert(place, name, value)
    write_whole(path.with_suffix(".csv"), numbers.to_csv(index=False).encode())
    title = f"{group.dataset}, {group.bias}"
    drawn = io.BytesIO()
    title = f"{title}\n{PAPER_TITLE}" if group.protocol == "paper" else title
    metric, label = f"{group.measured}/accuracy", f"{group.measured} accuracy, %"
    save_curve_png(drawn, curves, title, metric=metric, label=label, baseline=baseline)
    write_whole(path, drawn.getvalue())
    return path


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.name,
        "dataset": outcome.config.data.name,
        "bias": bias_name(outcome.config.bias),
        "method": outcome.method,
        "seed": outcome.config.seed,
        "protocol": outcome.config.protocol,
        "fingerprint": outcome.fingerprint,
        "split_digest": outcome.split_digest,
        "run_id": outcome.run_id,
        "tracking_uri": outcome.tracking_uri,
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
        typer.echo(json.dumps({"plan": plans}))
        return
    import yaml

    typer.echo(yaml.safe_dump(plans[0]["config"], sort_keys=False))
    Console(width=None if os.isatty(1) else WIDTH).print(plan_table(plans))
