"""A study as MLflow runs: the study, under it a run per trial, under that a run per round and seed."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean
from types import TracebackType
from typing import Any, Self

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, Trial, TrialState

from fkal.atomic_files import naming
from fkal.engine.rounds import Round
from fkal.experiment.experiment import Experiment
from fkal.plots.figure_text import load_matplotlib
from fkal.tracking.metrics import PARENT_METRICS, Point, child_points, round_digest, stored_name
from fkal.tracking.patience import StoreUnavailable, terminate_soon
from fkal.tracking.run_writer import RunWriter, new_run
from fkal.tracking.store import experiment_id, prepare_store
from fkal.tracking.tags import KEY, PARENT, child_tags, study_tags
from fkal.tuning.study import RUN, SharedStudy
from fkal.tuning.study_spec import StudySpec

STATE = "fkal.trial_state"
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAIL: "FAILED"}


class StudyRun:
    """Holds the run of a study, found again by its tags; left by an exception it is KILLED."""

    def __init__(self, plan: StudySpec, traced: Experiment, study: SharedStudy, uri: str) -> None:
        self._plan = plan
        self._traced = traced
        self._study = study
        self.client = prepare_store(uri)
        self.experiment_id = experiment_id(self.client, f"{plan.dataset}-tune")
        with study.lock:
            self._ledger = RunWriter(self.client, self._found() or self._created())
        self._ledger.write(
            params={
                **plan.base.flat,
                "tune.objective": plan.objective,
                "tune.seeds": list(plan.seeds),
                **{f"space.{name}": text for name, text in plan.space.described.items()},
            }
        )

    @property
    def run_id(self) -> str:
        return self._ledger.run_id

    @property
    def is_finished(self) -> bool:
        return bool(self._ledger.run.info.status == "FINISHED")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            terminate_soon(self.client, self.run_id, "KILLED")

    def begin(self) -> None:
        """At work, be it again: another process may have ended the run meanwhile."""
        self.client.update_run(self.run_id, status="RUNNING")

    def trial(self, trial: Trial) -> "TrialRun":
        name = f"{self._plan.name}-t{trial.number:03d}"
        tags = {
            **study_tags(self._traced, kind="trial", key=f"{self._plan.name}/t{trial.number:03d}"),
            STATE: "running",
            PARENT: self.run_id,
        }
        run = new_run(self.client, self.experiment_id, name=name, tags=tags)
        trial.set_user_attr(RUN, run.info.run_id)
        return TrialRun(self, self._plan, trial, run)

    def lost(self, trial: FrozenTrial) -> None:
        """The run of a trial whose worker is gone; a store that knows it no more has nothing to mend."""
        run_id = trial.user_attrs.get(RUN)
        if run_id is not None:
            with suppress(MlflowException, StoreUnavailable):
                self.client.set_tag(run_id, STATE, "lost")
                self.client.set_terminated(run_id, "KILLED")

    def finish(self, best: Mapping[str, Any] | None) -> None:
        """What came of the study, as files; then the run is FINISHED, or FAILED where no trial is complete."""
        load_matplotlib()
        from fkal.tuning.figures import write_study_files

        with tempfile.TemporaryDirectory() as folder, naming(Path(folder)):
            write_study_files(Path(folder), self._study.optuna, self._plan, best)
            self.client.log_artifacts(self.run_id, folder)
        self.client.set_terminated(self.run_id, "FAILED" if best is None else "FINISHED")

    def _found(self) -> Run | None:
        query = f"tags.`{KEY}` = '{self._plan.name}' and tags.`fkal.kind` = 'study'"
        found = self.client.search_runs([self.experiment_id], query, max_results=1)
        return found[0] if found else None

    def _created(self) -> Run:
        tags = study_tags(self._traced, kind="study", key=self._plan.name)
        return new_run(self.client, self.experiment_id, name=self._plan.name, tags=tags)


class TrialRun:
    """Holds the run of one trial while it is worked on; left by an exception it is KILLED."""

    def __init__(self, study: StudyRun, plan: StudySpec, trial: Trial, run: Run) -> None:
        self._study = study
        self._plan = plan
        self._trial = trial
        self._ledger = RunWriter(study.client, run)
        self._experiments: Sequence[Experiment] = ()
        self._labels = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            terminate_soon(self._study.client, self._ledger.run_id, "KILLED")

    def begin(self, experiments: Sequence[Experiment]) -> None:
        self._experiments = experiments
        sampled = {f"sampled.{name}": value for name, value in self._trial.params.items()}
        config = experiments[0].config.flat
        self._ledger.write(params={**config, "seed": list(self._plan.seeds), **sampled, "trial": self._trial.number})

    def checkpoint(self, latest: Sequence[Round], values: Sequence[float]) -> None:
        """One round of every seed: means on the trial's run, the rest on runs of their own."""
        self._labels = latest[0].labels_used
        means = {
            stored_name(name): mean(each.metrics[name] for each in latest)
            for name in PARENT_METRICS
            if all(name in each.metrics for each in latest)
        }
        figures = {**means, **self._named(values)}
        self._ledger.write([Point(name, value, self._labels) for name, value in figures.items()])
        for experiment, finished in zip(self._experiments, latest, strict=True):
            self._iteration(experiment, finished)

    def finish(self, state: TrialState, values: Sequence[float] | None, reason: str) -> None:
        final = {f"final/{name}": value for name, value in self._named(values or ()).items()}
        self._ledger.write(
            [Point(name, value, self._labels) for name, value in final.items()],
            tags={STATE: state.name.lower(), **({"fkal.reason": reason} if reason else {})},
        )
        self._study.client.set_terminated(self._ledger.run_id, STATUS[state])

    def _named(self, values: Sequence[float]) -> dict[str, float]:
        return {f"objective/{each.name}": value for each, value in zip(self._plan.objectives, values, strict=False)}

    def _iteration(self, experiment: Experiment, finished: Round) -> None:
        client = self._study.client
        began = int((time.time() - sum(finished.seconds.values())) * 1000)
        run = new_run(
            client,
            self._study.experiment_id,
            start_time=began,
            tags=child_tags(experiment, finished.b, parent=self._ledger.run_id, digest=round_digest(finished)),
            name=f"{self._plan.name}-t{self._trial.number:03d}-s{experiment.seed}-b{finished.b:02d}",
        )
        params = {**self._trial.params, "trial": self._trial.number, "seed": experiment.seed, "b": finished.b}
        RunWriter(client, run).write(child_points(finished), params=params)
        client.set_terminated(run.info.run_id, "FINISHED")
