"""An experiment as MLflow runs: a parent with its curves, a child per round; what is there is not logged twice."""

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import yaml
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from fkal.atomic_files import naming
from fkal.data.datasets import Dataset
from fkal.engine.loop import Weights
from fkal.engine.rounds import Round
from fkal.experiment.experiment import Loadable
from fkal.interrupts import interrupt_in
from fkal.notify import Notify
from fkal.plots.curves import PAPER_TITLE, save_run_png
from fkal.results.checkpoint import Checkpoint
from fkal.results.csv_files import csv_bytes
from fkal.results.curves import REACHED, area_under_budget_curve, curve_frame, labels_to_reach
from fkal.tracking.artifacts import write_round_files
from fkal.tracking.dataset_inputs import dataset_inputs, measured_dataset
from fkal.tracking.descriptions import CURVE, Described, experiment_note, round_note
from fkal.tracking.metrics import Point, child_points, nested, param_text, parent_points, round_digest
from fkal.tracking.model import EXAMPLES, NotTraceable, has_model, log_model
from fkal.tracking.paged_runs import paged_runs
from fkal.tracking.patience import StoreUnavailable, impatient, terminate_soon
from fkal.tracking.run_writer import RunWriter, new_run
from fkal.tracking.store import experiment_id, prepare_store, tracking_uri
from fkal.tracking.system_metrics import ENERGY, Meters
from fkal.tracking.tags import (
    KEY,
    METHOD_KEY,
    NOTE,
    PARENT,
    ROUND_DIGEST,
    SUPERSEDED,
    Compared,
    MadeWith,
    child_key,
    child_tags,
    compared_params,
    method_key,
    parent_tags,
)

ENTERED_TWICE = ("IntegrityError", "UniqueViolation")  # as SQLite and PostgreSQL have it


class Tracked(Compared, Described, Protocol):
    """What tracking reads of an experiment."""

    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def dataset(self) -> Dataset: ...
    @property
    def split_path(self) -> Path: ...
    def loadable(self, weights: Weights, n: int) -> Loadable: ...
    def round_title(self, b: int) -> str: ...


class TrackedRun:
    """Holds the parent run of one experiment while it is worked on.

        with TrackedRun.open(experiment, state, uri=None, say=print) as run:
            run.replay(finished)
            run.log(finished_now)
            run.finish()

    It is found again by its tag `fkal.key`. A process that is killed leaves it RUNNING, an
    exception makes it FAILED (KILLED for an interrupt); either is taken up again next time.
    """

    def __init__(
        self,
        experiment: Tracked,
        state: Checkpoint,
        client: MlflowClient,
        *,
        say: Notify,
        monitor: bool,
        made_with: MadeWith = None,
    ) -> None:
        self._experiment = experiment
        self._made_with = made_with
        self._state = state
        self._client = client
        self._say = say
        self._experiment_id = experiment_id(client, experiment.tags["dataset"])
        self._rounds: list[Round] = []
        self._energy: list[float | None] = []
        self._logged_some = False
        self._parent: RunWriter
        self._children: dict[str, RunWriter]
        self._meters = Meters(experiment.device, client.tracking_uri) if monitor else None
        self._is_finished = False
        run = self._found() or self._created()
        self._is_finished = run.info.status == "FINISHED"
        try:
            self._take_up(run)
        except BaseException as error:
            self._stopped(run.info.run_id, error)
            raise

    @classmethod
    def open(
        cls,
        experiment: Tracked,
        state: Checkpoint,
        *,
        uri: str | None = None,
        say: Notify,
        monitor: bool = True,
        made_with: MadeWith = None,
    ) -> Self:
        """The experiment's run in the store at `uri` (default: see `tracking_uri`), or a new one.

        `monitor` false leaves out system metrics and GPU figures, and `made_with` tells what the
        rounds were made with, to rebuild a store from those of another process. Raises ValueError
        if the store cannot be reached.
        """
        client = prepare_store(tracking_uri(uri, Path.cwd()), say)
        return cls(experiment, state, client, say=say, monitor=monitor, made_with=made_with)

    @property
    def run_id(self) -> str:
        return self._parent.run_id

    def __enter__(self) -> Self:
        if self._meters and not self._is_finished:
            try:
                self._meters.start(self.run_id)
            except BaseException as error:
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stopped(self.run_id, error)
        if self._meters:  # last, since it may take seconds, and a worker that was asked to end has few
            self._meters.stop()

    def replay(self, finished: Iterable[Round]) -> None:
        """Rounds of an earlier process: what the store lacks of them is logged."""
        for past in finished:
            self._record(past, {})
        if self._meters:
            self._meters.lap()

    def log(self, finished: Round) -> None:
        """A round that was finished just now."""
        self._record(finished, self._meters.lap() if self._meters else {})

    def finish(self, *, model: bool = True) -> bool:
        """The summary, the curve, with `model` a loadable model; then the run is FINISHED.

        Whether the store lacked anything of the experiment.
        """
        assert self._rounds, "finish() comes after the last round's log()"
        wrote = self._parent.write(self._summary())
        if self._is_finished and not wrote and not self._logged_some:
            return False
        self._log_curve()
        self._parent.write(tags={NOTE: self._note()})
        if model and not has_model(self._parent.run):
            self._log_model()
        if self._meters:
            self._meters.stop()
        self._client.set_terminated(self.run_id, "FINISHED")
        self._is_finished = True
        return True

    def leave(self) -> None:
        """Leaves an experiment that is not finished: its run is KILLED until someone goes on with it."""
        self._stopped(self.run_id, KeyboardInterrupt())

    def _stopped(self, run_id: str, error: BaseException) -> None:
        """A store that is locked or gone cannot be told; the run stays RUNNING there, and is taken up again."""
        if not self._is_finished and not isinstance(error, StoreUnavailable):
            failed = isinstance(error, Exception) and interrupt_in(error) is None
            terminate_soon(self._client, run_id, "FAILED" if failed else "KILLED")

    def _found(self) -> Run | None:
        """The run of an earlier process; one that was deleted does not count."""
        remembered = self._state.run_ids().get("parent")
        run = self._remembered(remembered) if remembered else None
        if run is None:
            run = next(iter(self._of_this_key(self._client)), None)
        if run is None and remembered:
            self._say(f"MLflow run {remembered} is not in {self._client.tracking_uri} any more: a new run is made")
        return run

    def _of_this_key(self, client: MlflowClient) -> Sequence[Run]:
        """None or one."""
        query = f"tags.`{KEY}` = '{self._experiment.fingerprint}'"
        return client.search_runs(self._places(client), query, max_results=1)

    def _places(self, client: MlflowClient) -> list[str]:
        """Experiments that may hold the run: earlier versions put all own trees into one, `fkal/folder`."""
        shared = None
        if self._experiment.tags["dataset"] != self._experiment.dataset.name:
            shared = client.get_experiment_by_name(f"fkal/{self._experiment.dataset.name}")
        return [self._experiment_id, *([] if shared is None else [shared.experiment_id])]

    def _remembered(self, run_id: str) -> Run | None:
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        same = run.data.tags.get(KEY) == self._experiment.fingerprint
        return run if same and run.info.lifecycle_stage == LifecycleStage.ACTIVE else None

    def _created(self) -> Run:
        tags = parent_tags(self._experiment, self._made_with)
        try:
            return new_run(self._client, self._experiment_id, name=self._experiment.title, tags=tags)
        except KeyboardInterrupt as error:  # which waits for the store's answer, so the run may be there
            with suppress(MlflowException):
                for run in self._of_this_key(impatient(self._client)):
                    self._stopped(run.info.run_id, error)
            raise

    def _take_up(self, run: Run) -> None:
        self._is_finished = run.info.status == "FINISHED"
        self._experiment_id = run.info.experiment_id  # earlier versions put all own trees into one
        self._parent = RunWriter(self._client, run)
        self._children = self._found_children() if run.data.params else {}
        if not run.data.params:  # they are logged last: without them, the rest may lack as well
            self._log_inputs()
            self._log_given_files()
        if run.info.status not in ("RUNNING", "FINISHED"):
            self._client.update_run(self.run_id, status="RUNNING")
        if not self._is_finished:
            tags = {**parent_tags(self._experiment, self._made_with), NOTE: self._note()}
            self._parent.write(params=compared_params(self._experiment), tags=tags)
        if run.data.tags.get(METHOD_KEY) != method_key(self._experiment, self._made_with):  # of an earlier version
            self._client.update_run(self.run_id, name=self._experiment.title)
            self._parent.write(tags={**parent_tags(self._experiment, self._made_with), NOTE: self._note()})
        self._state.remember(self.run_id)

    def _found_children(self) -> dict[str, RunWriter]:
        """By key."""
        query = f"tags.`{PARENT}` = '{self.run_id}'"
        runs = paged_runs(self._client, self._experiment_id, query)
        return {run.data.tags.get(KEY, ""): RunWriter(self._client, run) for run in runs}

    def _record(self, finished: Round, figures: Mapping[str, float]) -> None:
        key, digest = child_key(self._experiment.fingerprint, finished.b), round_digest(finished)
        child = self._children.get(key)
        if child is not None and child.run.data.tags.get(ROUND_DIGEST) != digest:
            self._supersede(finished.b)
            child = None
        if child is None:
            child = self._children[key] = self._new_child(finished, digest)
        if child.run.info.status != "FINISHED":
            self._complete_child(child, finished, figures)
            self._logged_some = True
        wrote = self._parent.write(parent_points(finished))
        self._logged_some |= wrote
        self._energy.append(child.run.data.metrics.get(ENERGY, figures.get(ENERGY)))
        self._rounds.append(finished)

    def _new_child(self, finished: Round, digest: str) -> RunWriter:
        tags = child_tags(self._experiment, finished.b, parent=self.run_id, digest=digest, made_with=self._made_with)
        began = int((time.time() - sum(finished.seconds.values())) * 1000)
        name = self._experiment.round_title(finished.b)
        run = new_run(self._client, self._experiment_id, name=name, tags=tags, start_time=began)
        self._state.remember(self.run_id, {finished.b: run.info.run_id})
        return RunWriter(self._client, run)

    def _note(self) -> str:
        return experiment_note(self._experiment, self._experiment.seed, self.run_id, self._rounds)

    def _complete_child(self, child: RunWriter, finished: Round, figures: Mapping[str, float]) -> None:
        title = f"{self._experiment.round_title(finished.b)}, {finished.labels_used} labels used"
        with tempfile.TemporaryDirectory() as folder, naming(Path(folder)):
            write_round_files(Path(folder), finished, self._experiment.dataset.train, title)
            self._client.log_artifacts(child.run_id, folder)
        points = [*child_points(finished), *(Point(k, v, finished.labels_used) for k, v in figures.items())]
        note = round_note(self._experiment, self._experiment.seed, child.run_id, finished)
        child.write(points, params={**compared_params(self._experiment), "b": finished.b}, tags={NOTE: note})
        self._client.set_terminated(child.run_id, "FINISHED")

    def _supersede(self, b: int) -> None:
        """Metrics cannot be rewritten, so a round that came out otherwise needs a run of its own."""
        self._say(
            f"round {b} came out otherwise than the one in MLflow run {self.run_id}: "
            "that run is kept as it is, marked fkal.superseded_key, and a new run is made"
        )
        self._client.set_tag(self.run_id, SUPERSEDED, self._experiment.fingerprint)
        self._client.delete_tag(self.run_id, KEY)
        if not self._is_finished:
            self._client.set_terminated(self.run_id, "KILLED")
        earlier, self._rounds, self._energy = self._rounds, [], []
        self._take_up(self._created())
        if self._meters:
            self._meters.stop()
            self._meters.start(self.run_id)
        for past in earlier:
            self._record(past, {})

    def _summary(self) -> list[Point]:
        labels = [past.labels_used for past in self._rounds]
        accuracies = [past.metrics[f"{past.measured}/accuracy"] for past in self._rounds]
        macro = [past.metrics.get(f"{past.measured}/macro_accuracy") for past in self._rounds]
        known = [value for value in macro if value is not None]
        needed = labels_to_reach(REACHED, labels, accuracies)  # a bound is no figure to compare runs by
        figures = {
            "summary/aubc": area_under_budget_curve(labels, accuracies),
            "summary/aubc_macro": area_under_budget_curve(labels, known) if len(known) == len(macro) else None,
            "summary/final_accuracy": accuracies[-1],
            "summary/labels_to_90pct": None if needed is None or needed.at_most else needed.labels,
            "summary/energy_wh": None if None in self._energy else sum(e for e in self._energy if e is not None),
        }
        return [Point(name, value, labels[-1]) for name, value in figures.items() if value is not None]

    def _log_inputs(self) -> None:
        """Twice if need be: MLflow looks a dataset up and then enters it, which another process may do in between."""
        inputs = dataset_inputs(self._experiment)
        try:
            self._client.log_inputs(self.run_id, inputs)
        except MlflowException as error:
            if not any(name in str(error) for name in ENTERED_TWICE):
                raise
            self._client.log_inputs(self.run_id, inputs)

    def _log_given_files(self) -> None:
        split = self._experiment.split_path  # as text, since a copy could not replace one that is read-only as it is
        self._client.log_text(self.run_id, split.read_text(encoding="utf-8"), split.name)
        text = yaml.safe_dump(nested(self._experiment.params), sort_keys=False, allow_unicode=True)
        self._client.log_text(self.run_id, text, "params.yaml")

    def _log_curve(self) -> None:
        frame = curve_frame(self._rounds)
        paper = f"\n{PAPER_TITLE}" if self._experiment.protocol == "paper" else ""
        with tempfile.TemporaryDirectory() as folder, naming(Path(folder)):
            (Path(folder) / "curve.csv").write_bytes(csv_bytes(frame))
            save_run_png(
                Path(folder) / CURVE,
                frame,
                f"{self._experiment.title}{paper}",
                self._experiment.tags.get("method", ""),
            )
            self._client.log_artifacts(self.run_id, folder)

    def _log_model(self) -> None:
        experiment, last = self._experiment, self._rounds[-1]
        model, weights, examples = experiment.loadable(last.weights, EXAMPLES)
        try:
            log_model(
                self._client,
                self._parent.run,
                model=model,
                weights=weights,
                examples=examples,
                step=last.labels_used,
                params={key: param_text(value) for key, value in experiment.read_params.items()},
                dataset=measured_dataset(experiment, last.measured),
            )
        except NotTraceable as error:
            self._say(
                f"no loadable model in MLflow, as torch.export cannot trace it ({error}); "
                f"its weights are weights.safetensors of run {experiment.round_title(last.b)}"
            )
