"""Experiments as the tracking store has them: found, filtered, named by people."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fkal.config.method_spec import long_method_name, with_alias
from fkal.config.params_file import seed_numbers
from fkal.config.schema import ConfigError
from fkal.errors import MissingRuns, did_you_mean, listed, shortened
from fkal.identifiers import UnsafeName, checked_fingerprint
from fkal.redaction import redacted
from fkal.tracking.metrics import stored_metrics
from fkal.tracking.sqlite_address import database_path, is_sqlite
from fkal.tracking.store import prepare_store, tracking_uri
from fkal.tracking.tags import DATA_DIGEST, KIND, NAME, PARENT, PROJECT, SUPERSEDED
from fkal.tracking.unreadable_rows import Rows, pages, rows

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

READ_AGAIN = "give the same command again once it can be used"
MEASURED = (
    ("accuracy/test", "accuracy/macro", "accuracy/rare"),
    ("accuracy/holdout", "accuracy/holdout_macro", "accuracy/holdout_rare"),
)
"""Accuracy, balanced, of rare classes: on the test set, or on validation images that the method does not see."""
FRACTIONS = ("accuracy/", "summary/aubc", "summary/final_accuracy")
ROUNDING = 1e-9
"""By which a mean of ones may exceed one."""
MOST_LABELS = 10**12
LATEST = 1000 * 60 * 60 * 24 * 365 * 200
"""Milliseconds since 1970 of a time that a table can show."""
UNREADABLE = "its row was changed by hand, and MLflow cannot read it"
SEED = re.compile("[0-9]{1,18}")
STATUSES = ("RUNNING", "FINISHED", "FAILED", "KILLED")
KNOWN_TO_MLFLOW = (*STATUSES, "SCHEDULED")


class FoundRun(NamedTuple):
    """The parent run of one experiment; what it has not is None.

    `name` is the command line's (`mnist-ir100-pfk_joint-s0`), `title` the one that MLflow shows.
    """

    run_id: str
    experiment_id: str
    name: str
    title: str
    dataset: str
    bias: str
    method: str
    seed: int
    protocol: str
    fingerprint: str
    data_digest: str
    status: str
    superseded: bool
    labels_used: int | None
    accuracy: float | None
    balanced_accuracy: float | None
    rare_accuracy: float | None
    aubc: float | None
    started: int

    @property
    def shown_name(self) -> str:
        """With the alias that the method has."""
        return with_alias(self.name, self.method)

    @property
    def flaw(self) -> str | None:
        """What is wrong with a run that can be shown all the same."""
        try:
            checked_fingerprint(self.fingerprint, "its tag fkal.fingerprint")
        except UnsafeName as error:
            return _flawed(self.run_id, str(error))
        return None


@dataclass(frozen=True)
class RunFilter:
    """What runs are asked for; an empty set asks for any."""

    datasets: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    seeds: frozenset[int] = frozenset()
    statuses: frozenset[str] = frozenset()
    superseded: bool = False

    @property
    def is_any(self) -> bool:
        return not (self.datasets or self.biases or self.methods or self.seeds or self.statuses)

    @property
    def said(self) -> str:
        """What is asked for, in words."""
        asked = {
            "dataset": self.datasets,
            "bias": self.biases,
            "method": self.methods,
            "seed": self.seeds,
            "status": self.statuses,
        }
        words = [f"{name} {' or '.join(sorted(map(str, some)))}" for name, some in asked.items() if some]
        return ", ".join(words) or "a run that is not superseded"

    def takes(self, run: FoundRun) -> bool:
        pairs = (
            (self.datasets, run.dataset),
            (self.biases, run.bias),
            (self.methods, run.method),
            (self.seeds, run.seed),
            (self.statuses, run.status),
        )
        return (self.superseded or not run.superseded) and all(not some or value in some for some, value in pairs)


def wanted(
    *, dataset: str | None, bias: str | None, method: str | None, seed: str | None, status: str | None, superseded: bool
) -> RunFilter:
    """Of options that hold comma-separated values. Raises ConfigError for a status that MLflow has not."""
    statuses = frozenset(word.upper() for word in _words(status))
    for unknown in sorted(statuses.difference(STATUSES)):
        known = [name.lower() for name in STATUSES]
        raise ConfigError(
            f"--status {unknown.lower()!r} is unknown; {did_you_mean(unknown.lower(), known)}known: {', '.join(known)}"
        )
    seeds = frozenset(seed_numbers(seed)) if seed else frozenset[int]()
    methods = frozenset(map(long_method_name, _words(method)))
    return RunFilter(_words(dataset), _words(bias), methods, seeds, statuses, superseded)


def open_store(given: str | None) -> "MlflowClient":
    """A client of a store that is there already. Raises MissingRuns if none is: to read makes no store."""
    uri = tracking_uri(given, Path.cwd())
    if is_sqlite(uri) and not database_path(uri).exists():
        raise MissingRuns(
            f"there is no MLflow store {redacted(uri)}; `fkal run` makes one, "
            "--tracking-uri or MLFLOW_TRACKING_URI names another"
        )
    return prepare_store(uri, way_out=READ_AGAIN)


class Listing(NamedTuple):
    """Runs, newest first, and why others cannot be read."""

    runs: list[FoundRun]
    left_out: list[str]

    @property
    def damaged(self) -> list[str]:
        """Also what is wrong with the runs that can be read."""
        return [*self.left_out, *(run.flaw for run in self.runs if run.flaw is not None)]


def find_runs(client: "MlflowClient", wanted: RunFilter) -> Listing:
    """Raises MissingRuns where no experiment is tracked, ConfigError where none is as asked for."""
    everything = all_runs(client)
    some = [run for run in everything.runs if wanted.takes(run)]
    if not some:
        lines = [
            f"{redacted(client.tracking_uri)}: {len(everything.runs)} tracked, none with {wanted.said}; "
            "`fkal runs --all` lists them",
            *everything.damaged,
        ]
        raise ConfigError("\n".join(lines))
    return Listing(some, everything.left_out)


def all_runs(client: "MlflowClient") -> Listing:
    """Raises MissingRuns where no experiment is tracked."""
    tracked = rows(client.search_runs, _places(client), f"tags.`{KIND}` = 'experiment'")
    runs, left_out = [], [unreadable_run(run_id) for run_id in tracked.unreadable]
    for run in tracked.runs:
        try:
            runs.append(_found(run))
        except ValueError as error:
            left_out.append(_flawed(run.info.run_id, str(error)))
    if not runs and not left_out:
        if pools := own_pools(client):
            raise MissingRuns(
                f"{redacted(client.tracking_uri)}: tracks no run of `fkal run`, but the selections and trainings of "
                f"{listed(pools)}; `fkal status` shows the rounds of such a project, `fkal ui` its runs"
            )
        raise MissingRuns(
            f"no experiment is tracked in {redacted(client.tracking_uri)}; `fkal run` tracks what it runs"
        )
    return Listing(runs, left_out)


def own_pools(client: "MlflowClient") -> list[str]:
    """The projects whose selections and trainings the store tracks."""
    found = rows(client.search_runs, _places(client), f"tags.`{PROJECT}` LIKE '%'")
    return sorted({run.data.tags[PROJECT] for run in found.runs})


def refuse_empty(client: "MlflowClient") -> None:
    """Raises MissingRuns for a store that tracks nothing of fkal's."""
    try:
        all_runs(client)
    except MissingRuns:
        if not own_pools(client):
            raise


def iterations(client: "MlflowClient", run: FoundRun) -> Rows:
    """The child runs."""
    return rows(client.search_runs, [run.experiment_id], f"tags.`{PARENT}` = '{run.run_id}'")


def _places(client: "MlflowClient") -> list[str]:
    return [each.experiment_id for each in pages(client.search_experiments, filter_string="name LIKE 'fkal/%'")]


def named(everything: Sequence[FoundRun], texts: Sequence[str], *, superseded: bool) -> list[FoundRun]:
    """The run of each id, beginning of an id, name or title.

    Raises ConfigError for what is none, or stands for several; `superseded` tells whether a name
    stands for superseded runs as well.
    """
    chosen = {}
    for text in texts:
        current = [run for run in everything if superseded or not run.superseded]
        same = [run for run in current if text in (run.name, run.shown_name, run.title)]
        matches = same or [run for run in everything if run.run_id.startswith(text)]
        if not matches:
            raise ConfigError(
                f"{shortened(text)} is no experiment's run id, beginning of one, or name; `fkal runs` lists them"
            )
        if len(matches) > 1:
            ids = ", ".join(run.run_id for run in matches[:5])
            raise ConfigError(f"{shortened(text)} may be any of {len(matches)} runs ({ids}); give more of the id")
        chosen[matches[0].run_id] = matches[0]
    return list(chosen.values())


def _found(run: "Run") -> FoundRun:
    tags, metrics = run.data.tags, stored_metrics(run.data.metrics)
    if run.info.status not in KNOWN_TO_MLFLOW:
        raise ValueError(f"its status is {shortened(run.info.status)}, and none of MLflow's")
    steps = stored_metrics(_steps(run))
    if flaw := metric_flaw(metrics):
        raise ValueError(flaw)
    accuracy, balanced, rare = next((names for names in MEASURED if names[0] in metrics), MEASURED[0])
    return FoundRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=tags.get(NAME, run.info.run_name or ""),
        title=run.info.run_name or "",
        dataset=tags.get("fkal.dataset", ""),
        bias=tags.get("fkal.bias", ""),
        method=tags.get("fkal.method", ""),
        seed=_seed(tags.get("fkal.seed")),
        protocol=tags.get("fkal.protocol", ""),
        fingerprint=tags.get("fkal.fingerprint", ""),
        data_digest=tags.get(DATA_DIGEST, ""),
        status=run.info.status,
        superseded=SUPERSEDED in tags,
        labels_used=None if accuracy not in steps else _step(int(steps[accuracy])),
        accuracy=metrics.get(accuracy),
        balanced_accuracy=metrics.get(balanced),
        rare_accuracy=metrics.get(rare),
        aubc=metrics.get("summary/aubc"),
        started=_moment(run.info.start_time),
    )


def _steps(run: "Run") -> dict[str, int]:
    """Raises ValueError for a run with a text where a number belongs."""
    try:
        return {metric.key: metric.step for metric in run.to_proto().data.metrics}
    except TypeError as error:
        raise ValueError("it has a text where a number or a time belongs") from error


def unreadable_run(run_id: str) -> str:
    """The line for a run that MLflow cannot read, and the way out."""
    return _flawed(run_id, UNREADABLE)


def _flawed(run_id: str, flaw: str) -> str:
    return f"run {run_id}: {flaw}; mend it there, or delete the run: mlflow runs delete --run-id {run_id}"


def _seed(text: str | None) -> int:
    if text is None:
        raise ValueError("it has no tag fkal.seed")
    if not SEED.fullmatch(text):
        raise ValueError(f"its tag fkal.seed is {text[:40]!a}, and no seed")
    return int(text)


def metric_flaw(metrics: Mapping[str, float]) -> str:
    """What is wrong with the metrics of a run, under the store's names; empty if nothing is."""
    for name, value in metrics.items():
        if name.startswith(FRACTIONS) and not 0 <= value <= 1 + ROUNDING:
            return f"its metric {name} is {value}, and no fraction from 0 to 1"
    labels = metrics.get("labels_used", 0.0)
    if not (0 <= labels <= MOST_LABELS and labels == int(labels)):
        return f"its metric labels_used is {labels}, and no whole number from 0"
    return ""


def _step(labels: int) -> int:
    if labels < 0:
        raise ValueError(f"its accuracy has the step {labels}, and no number of labels")
    return labels


def _moment(milliseconds: int | None) -> int:
    if milliseconds is None or not 0 <= milliseconds < LATEST:
        raise ValueError(f"its start_time is {milliseconds}, and no time in milliseconds since 1970")
    return milliseconds


def _words(text: str | None) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip()) if text else frozenset()
