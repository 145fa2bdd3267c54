"""One Optuna study that several processes work on: which trial is next, and whose worker is gone."""

import math
import os
import socket
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
import psutil
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import BaseHeartbeatThread, get_heartbeat_thread, is_heartbeat_enabled
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from fkal.config.schema import ConfigError
from fkal.core.randomness import stream
from fkal.errors import first_line, listed, shortened
from fkal.folders import in_place
from fkal.redaction import redact_log, redacted, remember_address
from fkal.tuning.journal import open_journal, read_journal
from fkal.tuning.objectives import Objective
from fkal.tuning.search_space import NO_TAPS
from fkal.tuning.study_spec import StudySpec

WORKER, LOST, RETRY_OF, RETRIES, EMPTY, REASON, SECONDS, RUN = (
    f"fkal.{name}" for name in ("worker", "lost", "retry_of", "retries", "empty", "reason", "seconds", "run_id")
)
"""Attributes of a trial."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
JOURNAL = ".journal"
SQLITE = "sqlite:///"

MOST_RETRIES = 3
"""Of a trial whose worker is gone: one that takes more memory than there is would end one worker after another."""

NAMELESS_SECONDS = 60.0
"""So long another machine's worker may take to write its name on its trial."""

FORGOTTEN_SECONDS = 60.0
"""So long the process that failed a lost trial may take to queue it again."""

HEARTBEAT_SECONDS, SILENCE_SECONDS = 30, 180
"""How often a trial's worker tells a database that it lives, and how long without a word it is taken for gone."""

SAME_START = 1.0
"""Seconds by which the start of one process may be told differently."""


class SharedStudy:
    """Holds the study of a plan. What a process must not do at the same time as another is done under one lock.

    Sampler and pruner are no part of what is stored: each trial makes its own sampler, from a
    seed of the study and the trial's place in it, so that a study that was killed and went on has the
    trials of one that was not (Hyperband excepted, whose brackets go by Optuna's own numbers).
    """

    def __init__(
        self,
        plan: StudySpec,
        storage: BaseStorage,
        *,
        sampler: Callable[[int], BaseSampler],
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        self._plan = plan
        self._storage = storage
        self._sampler = sampler
        self.lock = FileLock(plan.folder / f"{plan.name}.lock")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with self.lock:
            self.optuna = optuna.create_study(
                storage=storage,
                study_name=plan.name,
                directions=[each.direction for each in plan.objectives],
                sampler=sampler(0),
                pruner=pruner,
                load_if_exists=True,
            )
        _refuse_changed(self.optuna, plan)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=states or None)

    def finished(self) -> list[FrozenTrial]:
        """Complete or pruned."""
        return _worked_on(self.trials(*FINISHED))

    def next_trial(self, wanted: int, on_lost: Callable[[FrozenTrial], None]) -> Trial | None:
        """The next trial, this process's own; None where `wanted` are finished or under way.

        The first has the configured values. Trials whose worker is gone are failed, told of, and queued again.
        """
        with self.lock:
            self._requeue_lost(on_lost)
            if len(_worked_on(self.trials(*FINISHED, TrialState.RUNNING))) >= wanted:
                return None
            if not self.trials():
                self.optuna.enqueue_trial(dict(self._plan.space.defaults))
            trial = self._drawn(self._sampler)
            while self._plan.space.is_empty(trial.params):
                self.note(trial, empty=True, reason=NO_TAPS)
                self.optuna.tell(trial, state=TrialState.PRUNED)
                trial = self._drawn(RandomSampler)  # a sampler that knows best might insist
            return trial

    def _drawn(self, sampler: Callable[[int], BaseSampler]) -> Trial:
        self.optuna.sampler = sampler(self._next_seed())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a heartbeat would be kept by Optuna's own loop; here it is by `alive`
            trial = self.optuna.ask(dict(self._plan.space.distributions))
        tells = is_heartbeat_enabled(self._storage)
        if tells:
            self._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
        trial.set_user_attr(WORKER, {**this_worker(), "tells": tells})
        return trial

    def waits_for(self) -> list[FrozenTrial]:
        """Trials of others that end or are found lost: this machine's, and all where workers tell that they live."""
        return [
            trial
            for trial in self.trials(TrialState.RUNNING)
            if _host(trial) in (None, _here()) or trial.user_attrs[WORKER].get("tells")
        ]

    def alive(self, trial: Trial) -> BaseHeartbeatThread:
        """Tells meanwhile, to a storage that keeps it, that the trial's worker lives."""
        return get_heartbeat_thread(trial._trial_id, self._storage)

    def note(self, trial: Trial, **attributes: Any) -> None:
        for key, value in attributes.items():
            trial.set_user_attr(f"fkal.{key}", value)

    def _requeue_lost(self, on_lost: Callable[[FrozenTrial], None]) -> None:
        """Of several processes that find a trial lost, the storage lets one fail it, and that one queues the retry.

        Where a kill came in between, another does so once `FORGOTTEN_SECONDS` have passed.
        """
        silent, failed = self._silent(), []
        for trial in self.trials(TrialState.RUNNING):
            is_foreign = _host(trial) not in (None, _here())
            if trial._trial_id not in silent if is_foreign else not is_lost(trial):
                continue
            retries = trial.user_attrs.get(RETRIES, 0)
            given_up = f"its worker was gone {retries + 1} times, for want of memory maybe; it is given up"
            why = {REASON: given_up} if retries >= MOST_RETRIES else {LOST: True}
            try:
                for key, value in why.items():
                    self._storage.set_trial_user_attr(trial._trial_id, key, value)
                if not self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL):
                    continue
            except UpdateFinishedTrialError:
                continue  # it ended, or another process was first
            failed.append(trial.number)
            on_lost(self.optuna.get_trials(deepcopy=False)[trial.number])
        retried = {trial.user_attrs.get(RETRY_OF) for trial in self.trials()}
        for trial in self.trials(TrialState.FAIL):
            is_due = trial.number in failed or _seconds_since(trial.datetime_complete) > FORGOTTEN_SECONDS
            if LOST in trial.user_attrs and trial.number not in retried and is_due:
                attributes = {RETRY_OF: trial.number, RETRIES: trial.user_attrs.get(RETRIES, 0) + 1}
                self.optuna.enqueue_trial(self._same_values(trial), user_attrs=attributes)

    def _silent(self) -> list[int]:
        """Ids of trials whose worker has told a database for long that it lives, and tells it no more.

        Optuna's own `fail_stale_trials` fails them before anything could be queued again, and takes a worker
        of this machine for gone that was only halted.
        """
        if not is_heartbeat_enabled(self._storage):
            return []
        return self._storage._get_stale_trial_ids(self.optuna._study_id)  # type: ignore[attr-defined]

    def _same_values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Where the worker was gone before all were drawn, the retry draws them from the same seed."""
        if "fixed_params" in trial.system_attrs:
            return dict(trial.system_attrs["fixed_params"])
        return dict(trial.params) if set(trial.params) == set(self._plan.space.distributions) else {}

    def _next_seed(self) -> int:
        """By the trials before, of which one that was lost and its retry count as one."""
        before = [t for t in self.trials() if t.state != TrialState.WAITING and LOST not in t.user_attrs]
        return stream(int(self._plan.settings_digest[:8], 16), "tune", len(before)).initial_seed() % 2**32


def _refuse_changed(study: optuna.Study, plan: StudySpec) -> None:
    """Raises ConfigError for a study that fkal did not leave so: its storage was changed.

    Optuna keeps the direction that is stored, whatever is asked for, and believes what a storage says.
    """
    try:
        flaw = _flaw(study, plan)
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, SQLAlchemyError) as error:
        flaw = f"it cannot be read ({first_line(error)})"
    if flaw:
        way_out = "put a sound copy of the storage there, or name another by --storage"
        raise ConfigError(f"study {plan.name}: {flaw}; {way_out}")


def _flaw(study: optuna.Study, plan: StudySpec) -> str:
    """What is wrong with it; empty if nothing is."""
    directions = [direction.name.lower() for direction in study.directions]
    if directions != [each.direction for each in plan.objectives]:
        of = ", ".join(f"{each.name} ({each.direction})" for each in plan.objectives)
        return f"its directions are {listed(directions) or 'not there'}, and not of {of}"
    for place, trial in enumerate(study.get_trials(deepcopy=False)):
        if trial.number != place:
            return f"trial {trial.number} stands in the place of trial {place}"
        if trial.state != TrialState.COMPLETE:
            continue
        if set(trial.params) != set(plan.space.distributions):
            return f"trial {place} has the parameters {shortened(sorted(trial.params))}, and not those of the space"
        if len(trial.values) != len(plan.objectives) or not all(map(_is_measured, trial.values, plan.objectives)):
            bounds = ", ".join(f"{each.name} from 0 to {each.largest}" for each in plan.objectives)
            return f"trial {place} has the values {shortened(trial.values)}, and can have {bounds}"
    return ""


def _is_measured(value: object, objective: Objective) -> bool:
    return isinstance(value, int | float) and 0 <= value <= objective.largest and math.isfinite(value)


def _worked_on(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Without those that had no taps, of which nothing was run."""
    return [trial for trial in trials if EMPTY not in trial.user_attrs]


def storage_named(given: str | None, plan: StudySpec, say: Callable[[str], None]) -> BaseStorage:
    """A journal file by default or by its path, a database by its URL. Raises ConfigError for what cannot be used."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = _journal_path(given, plan)
    if path is not None:
        return open_journal(path, say)
    return _stored(given, plan)


def studies_beside(storage: BaseStorage, plan: StudySpec) -> list[str]:
    """Other studies of the plan's dataset, bias and method, in its folder or its storage; none once it has begun."""
    stored = optuna.get_all_study_names(storage)
    if plan.name in stored:
        return []
    kept = [path.name.removesuffix(JOURNAL) for path in plan.folder.glob(f"*{JOURNAL}")]
    return sorted(name for name in {*stored, *kept} - {plan.name} if plan.is_alike(name))


def _stored(given: str | None, plan: StudySpec) -> BaseStorage:
    """A database by its URL."""
    assert given is not None
    remember_address(given)
    redact_log("optuna")
    lock = (
        FileLock(plan.folder / "storage.lock") if plan.folder.exists() else nullcontext()
    )  # who only looks makes none
    try:
        with lock:  # two processes that create the tables at once break them
            return _database(given)
    except Exception as error:  # SQLAlchemy's and the drivers' own
        raise ConfigError(
            f"--storage {redacted(given)}: the database cannot be used ({redacted(first_line(error))}); "
            "give sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME, and install its driver"
        ) from error


def _database(url: str) -> BaseStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        backend = optuna.storages.RDBStorage(url, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=SILENCE_SECONDS)
    return optuna.storages.get_storage(backend)


def finished_count(given: str | None, plan: StudySpec) -> int:
    """How many trials the study has finished; makes neither the study nor its file, and writes nothing under --out."""
    path = _journal_path(given, plan)
    file = path or _sqlite_file(given)
    if file is not None and not file.exists():
        return 0
    storage = _stored(given, plan) if path is None else read_journal(path)
    if plan.name not in optuna.get_all_study_names(storage):
        return 0
    study = optuna.load_study(study_name=plan.name, storage=storage)
    return len(_worked_on(study.get_trials(deepcopy=False, states=FINISHED)))


def _journal_path(given: str | None, plan: StudySpec) -> Path | None:
    """None for a database's URL."""
    if given is None:
        return in_place(plan.folder, f"{plan.name}{JOURNAL}")
    return None if "://" in given else Path(given)


def _sqlite_file(url: str | None) -> Path | None:
    """The file of such a database; None for another URL."""
    if url is None or not url.startswith(SQLITE):
        return None
    return Path(url.removeprefix(SQLITE).partition("?")[0])


@lru_cache(maxsize=1)
def this_worker() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the worker of a running trial is gone; one without a name may be about to write it."""
    worker = trial.user_attrs.get(WORKER)
    if worker is not None:
        return not is_alive(worker)
    return _seconds_since(trial.datetime_start) > NAMELESS_SECONDS


def _seconds_since(moment: datetime | None) -> float:
    """As Optuna tells time: without a zone."""
    return 0.0 if moment is None else (datetime.now() - moment).total_seconds()


def _host(trial: FrozenTrial) -> str | None:
    host: str | None = trial.user_attrs.get(WORKER, {}).get("host")
    return host


def _here() -> str:
    return socket.gethostname()


def is_alive(worker: dict[str, Any]) -> bool:
    """Whether the process still runs; of another machine's there is no telling, and it is taken for alive."""
    if worker["host"] != _here():
        return True
    try:
        process = psutil.Process(worker["pid"])
        started = process.create_time()
        return abs(started - worker["started"]) < SAME_START and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
