"""One trial: its seeds advanced side by side, a round at a time, so that they are pruned together."""

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from statistics import mean

import optuna
from optuna.trial import Trial, TrialState

from fkal.config.schema import ConfigError
from fkal.engine.rounds import Round
from fkal.errors import ends_all
from fkal.experiment.experiment import Experiment, prepare
from fkal.interrupts import raise_interrupt_in
from fkal.notify import Display, Notify, Shown
from fkal.redaction import redacted
from fkal.results.checkpoint import Checkpoint
from fkal.tuning.study import SharedStudy
from fkal.tuning.study_spec import StudySpec
from fkal.tuning.tracking import StudyRun, TrialRun


def run_trial(plan: StudySpec, study: SharedStudy, trial: Trial, run: StudyRun, display: Display) -> TrialState:
    """Work on a trial until it is complete, pruned or failed, and tell the study.

    What would fail every trial (data that is not there, a store that does not answer) is raised; the
    trial is then left to be queued again.
    """
    began = time.monotonic()
    with study.alive(trial), run.trial(trial) as tracked:
        values, state, reason = None, TrialState.COMPLETE, ""
        try:
            values = _worked(plan, study, trial, tracked, display)
        except optuna.TrialPruned as why:
            state, reason = TrialState.PRUNED, str(why)
        except Exception as error:
            raise_interrupt_in(error)
            if ends_all(error) and not isinstance(error, ConfigError):
                raise
            state, reason = TrialState.FAIL, redacted(" ".join(str(error).split())) or type(error).__name__
        seconds = round(time.monotonic() - began, 3)
        study.note(trial, seconds=seconds, **({"reason": reason} if reason else {}))
        tracked.finish(state, values, reason)
    study.optuna.tell(trial, values, state=state)
    return state


def _worked(plan: StudySpec, study: SharedStudy, trial: Trial, tracked: TrialRun, display: Display) -> list[float]:
    """The objectives' values. Raises TrialPruned where the pruner says so, but for settings whose values are known.

    Every trial labels the same number of images per round, as the budget is not searched: steps
    are labels used, and trials are compared at equal ones.
    """
    experiments = [prepare(config, plan.out, display.notify) for config in plan.configs(trial.params)]
    tracked.begin(experiments)
    rounds = experiments[0].rounds
    values: list[float] = []
    with ExitStack() as stack:
        states = _opened(stack, experiments, plan, display.notify)
        bars = stack.enter_context(display.one(f"trial {trial.number}", iterations=rounds * len(experiments)))
        pairs = zip(experiments, states, strict=True)
        sources = [stack.enter_context(closing(_rounds(*pair, bars, display.notify))) for pair in pairs]
        histories: list[list[Round]] = [[] for _ in experiments]
        for _ in range(rounds):
            for history, source in zip(histories, sources, strict=True):
                history.append(next(source))
            values = [mean(objective.of(history) for history in histories) for objective in plan.objectives]
            tracked.checkpoint([history[-1] for history in histories], values)
            if len(values) == 1:
                is_last = len(histories[0]) == rounds
                _report(study, trial, values[0], step=histories[0][-1].labels_used, is_last=is_last)
    return values


def _report(study: SharedStudy, trial: Trial, value: float, *, step: int, is_last: bool) -> None:
    trial.report(value, step)
    if not is_last and trial.should_prune() and not _is_known(study, trial):
        raise optuna.TrialPruned(f"hopeless at {step} labels ({value:.4f})")


def _is_known(study: SharedStudy, trial: Trial) -> bool:
    """Whether its settings have completed a trial."""
    return any(other.params == trial.params for other in study.trials(TrialState.COMPLETE))


def _opened(stack: ExitStack, experiments: Sequence[Experiment], plan: StudySpec, notify: Notify) -> list[Checkpoint]:
    """Opened in the order of their names, so that two trials that share some never wait for each other."""
    states = [Checkpoint(plan.out, experiment.fingerprint, waiting=notify) for experiment in experiments]
    for state in sorted(states, key=lambda state: state.path):
        stack.enter_context(state)  # another trial may have the same values; its rounds are then taken up
        state.belongs_to_trial()
    return states


def _rounds(experiment: Experiment, state: Checkpoint, bars: Shown, notify: Notify) -> Generator[Round]:
    """The finished rounds, then new ones, each kept before it is given; without weights, which stay on disk."""
    finished = state.rounds(notify)
    for past in finished:
        bars.advance()
        yield replace(past, weights={})
    if len(finished) >= experiment.rounds:
        return
    for event in experiment.events(finished):
        if not isinstance(event, Round):
            bars.show(event)
            continue
        state.add(event)
        bars.advance()
        yield replace(event, weights={})
