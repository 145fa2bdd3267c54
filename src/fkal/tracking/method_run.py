"""A run for each method, above the runs of its seeds: mean and deviation by labels used.

So the first list that MLflow shows is the list of methods, and its charts are their mean curves. Metrics cannot be
rewritten, so the run is made again when a seed finishes, and the one before is deleted.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from fkal.config.schema import digest_of
from fkal.experiment.command import SEEDS_OPTION, seeds_text
from fkal.plots import curves
from fkal.results.csv_files import csv_bytes
from fkal.tracking.descriptions import CURVE, method_note
from fkal.tracking.metrics import PARENT_METRICS, Point, stored_name
from fkal.tracking.paged_runs import paged_runs
from fkal.tracking.run_writer import RunWriter, new_run
from fkal.tracking.store import only_writer
from fkal.tracking.tags import (
    COMMAND,
    DATA_DIGEST,
    KEY,
    KIND,
    METHOD_KEY,
    METHOD_TITLE,
    NAME,
    NOTE,
    PARENT,
    SEED,
    SUPERSEDED,
)

MEMBERS = "fkal.members"
"""Digest of the runs that a method's run is the mean of."""
SHARED_TAGS = (
    "fkal.dataset",
    "fkal.bias",
    "fkal.method",
    "fkal.model",
    "fkal.protocol",
    "fkal.algorithm",
    "fkal.cell",
    DATA_DIGEST,
)
CURVES = tuple(dict.fromkeys(stored_name(name) for name in PARENT_METRICS))
OF_A_SEED = ("seed", "device", "data.root", "data.workers")
"""Params that a method has not: they are one seed's or one machine's."""
SETTINGS = "params.yaml"
SEED_NUMBER = re.compile("[0-9]{1,18}")


class Member(NamedTuple):
    """A seed's finished run and its curves: values by metric and labels used."""

    run: Run
    curves: Mapping[str, Mapping[int, float]]

    @property
    def seed(self) -> int:
        return int(self.run.data.tags[SEED])


def remake_method_run(client: MlflowClient, seed_run_id: str) -> str | None:
    """The run of the method that this seed's run belongs to, made again where its seeds have changed.

    It is the mean over the seeds that are finished, and all runs of the method are put below it. None where no seed
    is finished. The store's lock is held, so one process at a time does this.
    """
    seed = client.get_run(seed_run_id)
    key = seed.data.tags.get(METHOD_KEY)
    if key is None:
        return None
    with only_writer(client.tracking_uri):
        return _remake(client, seed.info.experiment_id, key)


def _remake(client: MlflowClient, experiment_id: str, key: str) -> str | None:
    runs = list(paged_runs(client, experiment_id, f"tags.`{METHOD_KEY}` = '{key}' and tags.`{KIND}` = 'experiment'"))
    before = list(paged_runs(client, experiment_id, f"tags.`{KEY}` = '{key}' and tags.`{KIND}` = 'method'"))
    members = _members(runs)
    digest = digest_of([[run.info.run_id, run.info.end_time] for run in members])
    current = [run for run in before if run.data.tags.get(MEMBERS) == digest and run.info.status == "FINISHED"]
    if members and not current:
        current = [_made(client, experiment_id, key, members, digest)]
    newest = max(current, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
    left: set[str] = set()
    for run in runs:
        if newest is not None and (parent := run.data.tags.get(PARENT)) != newest.info.run_id:
            client.set_tag(run.info.run_id, PARENT, newest.info.run_id)
            left |= {parent} if parent is not None else set()
    for run_id in left.difference(run.info.run_id for run in before):
        _delete_if_empty(client, experiment_id, run_id)
    for run in before:
        if newest is None or run.info.run_id != newest.info.run_id:
            client.delete_run(run.info.run_id)
    return None if newest is None else str(newest.info.run_id)


def _delete_if_empty(client: MlflowClient, experiment_id: str, run_id: str) -> None:
    """A method's run under the key of an earlier version, whose seeds all went to that of this version."""
    if not list(paged_runs(client, experiment_id, f"tags.`{PARENT}` = '{run_id}'")):
        client.delete_run(run_id)


def _members(runs: Sequence[Run]) -> list[Run]:
    """Of each seed the newest finished run that none has superseded, by seed.

    A run whose tags were changed by hand, so that its seed or method is not known, has no part.
    """
    finished = [run for run in runs if run.info.status == "FINISHED" and SUPERSEDED not in run.data.tags]
    finished = [run for run in finished if _is_known(run.data.tags)]
    finished.sort(key=lambda run: (int(run.data.tags[SEED]), run.info.start_time))
    return list({run.data.tags[SEED]: run for run in finished}.values())


def _is_known(tags: Mapping[str, str]) -> bool:
    return SEED_NUMBER.fullmatch(tags.get(SEED, "")) is not None and {"fkal.cell", METHOD_TITLE} <= set(tags)


def _made(client: MlflowClient, experiment_id: str, key: str, runs: Sequence[Run], digest: str) -> Run:
    members = [Member(run, _curves_of(client, run)) for run in runs]
    first = runs[0].data
    tags = {
        **{name: first.tags[name] for name in SHARED_TAGS if name in first.tags},
        "mlflow.source.name": "fkal",
        "mlflow.user": first.tags.get("mlflow.user", "unknown"),
        KIND: "method",
        KEY: key,
        NAME: first.tags["fkal.cell"],
        MEMBERS: digest,
    }
    run = new_run(client, experiment_id, name=first.tags[METHOD_TITLE], tags=tags)
    try:
        _write(client, RunWriter(client, run), members)
    except BaseException:
        client.delete_run(run.info.run_id)
        raise
    client.set_terminated(run.info.run_id, "FINISHED")
    return run


def _write(client: MlflowClient, ledger: RunWriter, members: Sequence[Member]) -> None:
    first = members[0].run.data.tags
    seeds = seeds_text([member.seed for member in members])
    with tempfile.TemporaryDirectory() as folder:
        _write_files(client, Path(folder), members, first)
        client.log_artifacts(ledger.run_id, folder)
    points = [*_mean_points(members), *_summary_points(members)]
    note = method_note(
        first[METHOD_TITLE],
        seeds,
        ledger.run_id,
        {point.key: point.value for point in points},
        labels=max(point.step for point in points),
        protocol=first["fkal.protocol"],
        command=f"{first[COMMAND].rpartition(SEEDS_OPTION)[0]}{SEEDS_OPTION}{seeds}",
    )
    ledger.write(
        points,
        params={**_common_params(members), "seeds": seeds},
        tags={NOTE: note},
    )


def _write_files(client: MlflowClient, folder: Path, members: Sequence[Member], tags: Mapping[str, str]) -> None:
    """The mean curve as a figure and as numbers, and the settings, which `fkal run --params` reads."""
    frames = [_frame(member) for member in members]
    metric = _measured(members)
    part = metric.removeprefix("accuracy/")
    paper = f"\n{curves.PAPER_TITLE}" if tags["fkal.protocol"] == "paper" else ""
    curves.save_curve_png(
        folder / CURVE,
        {tags["fkal.method"]: frames},
        f"{tags[METHOD_TITLE]}{paper}",
        metric=metric,
        label=f"{part} accuracy, %",
    )
    numbers = pd.concat(frame.assign(seed=member.seed) for frame, member in zip(frames, members, strict=True))
    (folder / "curve.csv").write_bytes(csv_bytes(numbers))
    settings = Path(client.download_artifacts(members[0].run.info.run_id, SETTINGS, str(folder)))
    shared = {name: value for name, value in yaml.safe_load(settings.read_text()).items() if name != "seed"}
    settings.write_text(yaml.safe_dump(shared, sort_keys=False, allow_unicode=True))


def _curves_of(client: MlflowClient, run: Run) -> dict[str, dict[int, float]]:
    known = [name for name in CURVES if name in run.data.metrics]
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in known}
    return {name: {metric.step: metric.value for metric in history} for name, history in histories.items()}


def _frame(member: Member) -> pd.DataFrame:
    """One row for each number of labels used."""
    return pd.DataFrame(member.curves).sort_index().rename_axis("labels_used").reset_index()


def _measured(members: Sequence[Member]) -> str:
    """The accuracy that the seeds are compared by."""
    return "accuracy/holdout" if all("accuracy/holdout" in member.curves for member in members) else "accuracy/test"


def _mean_points(members: Sequence[Member]) -> Iterator[Point]:
    """Means by labels used over the seeds that have a value there; of the measured accuracy the deviation as well."""
    measured = _measured(members)
    for name in CURVES:
        by_labels: dict[int, list[float]] = {}
        for member in members:
            for labels, value in member.curves.get(name, {}).items():
                by_labels.setdefault(labels, []).append(value)
        for labels, values in sorted(by_labels.items()):
            yield Point(name, mean(values), labels)
            if name == measured and len(values) > 1:
                yield Point(f"spread/{name.removeprefix('accuracy/')}", stdev(values), labels)


def _summary_points(members: Sequence[Member]) -> list[Point]:
    """Means of what all seeds have."""
    last = max(labels for member in members for labels in member.curves[_measured(members)])
    summaries = [
        {name: value for name, value in member.run.data.metrics.items() if name.startswith("summary/")}
        for member in members
    ]
    shared = [name for name in summaries[0] if all(name in summary for summary in summaries)]
    return [Point(name, mean(summary[name] for summary in summaries), last) for name in shared]


def _common_params(members: Sequence[Member]) -> dict[str, str]:
    """What all seeds have alike; the seed itself is no setting of a method, nor is the machine."""
    params = [member.run.data.params for member in members]
    return {
        key: value
        for key, value in params[0].items()
        if key not in OF_A_SEED and all(each.get(key) == value for each in params)
    }
