"""Experiments one after another, each kept, tracked and, at the end, put side by side."""

import io
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

from torch import get_num_threads

from fkal.acquisition.registry import acquisition_of
from fkal.atomic_files import write_whole
from fkal.config.schema import Config, digest_of
from fkal.data.errors import MissingData
from fkal.data.settings import EMBEDDINGS
from fkal.engine.processes import current_processes
from fkal.errors import MissingWeights, SomeFailed, ends_all
from fkal.experiment.device import device_named
from fkal.experiment.experiment import prepare
from fkal.experiment.names import shown_name
from fkal.experiment.plan_memory import RememberedPlan
from fkal.folders import below
from fkal.interrupts import raise_interrupt_in
from fkal.models.pretrained import names_own_file
from fkal.notify import PLAIN, Display, Notify
from fkal.redaction import redacted
from fkal.results.checkpoint import Checkpoint
from fkal.results.csv_files import csv_bytes
from fkal.results.curves import curve_frame
from fkal.results.outcome import GROUPED, Group, Outcome, by_cell, distinctions
from fkal.runner.executors import interleave, side_by_side
from fkal.runner.out_folder import refuse_no_folder, refuse_unusable
from fkal.runner.plan import PlannedRun, RayCluster, each_once, plan_memory, refuse_wrong_options
from fkal.runner.single import run_one
from fkal.tracking.store import StoreError, prepare_store, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Finished(NamedTuple):
    """What a call of `run` has at its end: outcomes in the order asked for, figures, and why others failed."""

    outcomes: list[Outcome]
    figures: list[Path]
    failures: list[str]

    def refuse_failures(self) -> None:
        """Raises SomeFailed where one of several experiments failed."""
        if self.failures:
            total = len(self.outcomes) + len(self.failures)
            raise SomeFailed(
                f"{len(self.failures)} of {total} experiments failed; the same command tries them again:\n"
                + "\n".join(self.failures)
            )


def run(
    configs: Sequence[Config],
    *,
    out: Path,
    tracking: str | None,
    jobs: int = 1,
    cluster: RayCluster | None = None,
    draws: bool = True,
    wait: bool = True,
    display: Display = PLAIN,
) -> Finished:
    """Run what is not finished yet and, with `draws`, draw the curves.

    Everything that can be is checked before anything runs. With `wait`, experiments that another process works on
    are waited for. With `cluster` each is a task of Ray. What fails all of them, or the only one, is raised.
    """
    planned = plan_runs(configs, out=out, tracking=tracking, jobs=jobs, cluster=cluster, notify=display.notify)
    client = prepare_store(tracking_uri(tracking, Path.cwd()), display.notify)
    outcomes: dict[int, Outcome] = {}
    failures: dict[int, str] = {}
    work = _Work(planned, out=out, tracking=tracking, wait=wait, display=display)
    with closing(work.on_cluster(cluster, jobs) if cluster else work.here(jobs)) as ended:
        for place, result in ended:
            if isinstance(result, Outcome):
                outcomes[place] = result
                put_under_method(client, result.run_id, display.notify)
                continue
            if len(planned) == 1 or ends_all(result) or current_processes().count > 1:
                raise result
            failures[place] = f"{shown_name(planned[place].config)}: {redacted(str(result))}"
            display.notify(f"failed: {failures[place]}")
    current_processes().from_first(None)
    finished = [outcomes[place] for place in sorted(outcomes)]
    groups = by_cell(finished) if draws else {}
    differs = distinctions(list(groups))
    figures = [
        draw(group, members, out, all_labels(group, groups), differs[group]) for group, members in groups.items()
    ]
    return Finished(finished, figures, [failures[place] for place in sorted(failures)])


def plan_runs(
    configs: Sequence[Config],
    *,
    out: Path,
    tracking: str | None,
    jobs: int = 1,
    cluster: RayCluster | None = None,
    notify: Notify,
    looks_only: bool = False,
) -> list[PlannedRun]:
    """What `run` does, checked. With `looks_only` nothing is downloaded or written.

    Then the fingerprint is unknown where images or weights are not here. Raises ConfigError or StoreError for what
    cannot be done.
    """
    refuse_wrong_options(tracking, jobs, cluster)
    if looks_only:
        refuse_no_folder(out)
    else:
        refuse_unusable(out)
    planned = each_once((_planned(config, out, notify, looks_only=looks_only) for config in configs), notify)
    if not looks_only:
        plan_memory(out).keep((plan.config, _remembered(plan)) for plan in planned if plan.fingerprint)
    return planned


def put_under_method(client: "MlflowClient", run_id: str, notify: Notify) -> None:
    """The run of the experiment's method is made again; where the store fails, it says so, and the results are kept."""
    from mlflow.exceptions import MlflowException

    from fkal.tracking.method_run import remake_method_run

    try:
        remake_method_run(client, run_id)
    except (MlflowException, StoreError) as error:
        notify(f"MLflow has no mean over the seeds of run {run_id} ({error}); the same command tries again")


def _planned(config: Config, out: Path, notify: Notify, *, looks_only: bool) -> PlannedRun:
    try:
        experiment = prepare(config, out, notify, looks_only=looks_only)
    except (MissingData, MissingWeights) as error:
        if not looks_only or names_own_files(config):
            raise
        notify(f"{shown_name(config)}: {error}")
        rounds = config.acquisition.rounds if acquisition_of(config.acquisition).has_schedule else 1
        return PlannedRun(config, None, rounds, config.acquisition.budget, None)
    return PlannedRun(
        config,
        experiment.fingerprint,
        rounds=experiment.rounds,
        budget=experiment.budget,
        pretrained=experiment.weights_paths[0],
        notes=experiment.dataset.notes,
    )


def _remembered(plan: PlannedRun) -> RememberedPlan:
    return RememberedPlan(str(plan.fingerprint), rounds=plan.rounds, budget=plan.budget, notes=plan.notes)


def names_own_files(config: Config) -> bool:
    """Whether images or weights are files that the user has; nothing will bring them."""
    return config.data.name in ("folder", EMBEDDINGS) or names_own_file(config.model)


Ended = Generator[tuple[int, Outcome | Exception], None, None]
"""Each experiment's place in the plan and its outcome, or what it failed of, as they end."""


class _Work(NamedTuple):
    """Experiments to run, and how."""

    planned: Sequence[PlannedRun]
    out: Path
    tracking: str | None
    wait: bool
    display: Display

    def here(self, jobs: int) -> Ended:
        """In this process, or in several of this machine."""
        jobs = min(jobs, len(self.planned))
        if jobs == 1:
            yield from self._in_turn(range(len(self.planned)))
            return
        configs = [plan.config for plan in self.planned]
        _notify_if_crowded(configs, jobs, self.display.notify)
        order = self._spread(range(len(configs)))
        yield from side_by_side(
            configs, order, jobs=jobs, out=self.out, tracking=self.tracking, wait=self.wait, display=self.display
        )

    def on_cluster(self, cluster: RayCluster, jobs: int) -> Ended:
        """As tasks of Ray; what is finished is only looked at, by this process."""
        finished = [place for place, plan in enumerate(self.planned) if self._is_finished(plan)]
        yield from self._in_turn(finished)
        left = self._spread(sorted(set(range(len(self.planned))) - set(finished)))
        if left:
            from fkal.runner.ray_executor import on_ray

            yield from on_ray(
                {place: self.planned[place] for place in left},
                cluster=cluster,
                jobs=jobs,
                out=self.out,
                tracking=self.tracking,
                wait=self.wait,
                display=self.display,
            )

    def _in_turn(self, places: Iterable[int]) -> Ended:
        """One after another, in this process."""
        for place in places:
            result: Outcome | Exception
            try:
                experiment = prepare(self.planned[place].config, self.out, self.display.notify)
                result = run_one(experiment, self.out, self.tracking, wait=self.wait, shown_by=self.display.one)
            except Exception as error:
                raise_interrupt_in(error)
                result = error
            yield place, result

    def _spread(self, places: Sequence[int]) -> list[int]:
        """In an order in which those that share pretraining, which wait for the first, are apart."""
        return [places[turn] for turn in interleave([self.planned[place].pretrained for place in places])]

    def _is_finished(self, plan: PlannedRun) -> bool:
        return plan.fingerprint is not None and Checkpoint(self.out, plan.fingerprint).is_finished


def _notify_if_crowded(configs: Sequence[Config], jobs: int, notify: Notify) -> None:
    """The number of threads is a part of an experiment, so it is not changed in silence."""
    threads, processors = get_num_threads(), os.cpu_count() or 1
    on_cpu = any(config.threads is None and device_named(config.device).type == "cpu" for config in configs)
    if on_cpu and jobs * threads > processors:
        notify(
            f"--jobs {jobs}: `threads` is not set, so each experiment takes {threads} threads, "
            f"{jobs * threads} in all on {processors} processors; `--set threads=1` is likely faster, "
            "but is another experiment: sums that are shared out otherwise differ in their last digits"
        )


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
        "bias": group.bias,
        "protocol": group.protocol,
        **{name: getattr(group, name) for name in GROUPED},
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
