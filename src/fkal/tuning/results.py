"""What a study found, as rows for people and an object for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from fkal.tuning.study import EMPTY, LOST, REASON, SECONDS, SharedStudy
from fkal.tuning.study_spec import StudySpec

SHOWN = 10


@dataclass(frozen=True)
class Findings:
    """The trials of a study; `best` is the most accurate complete one, `front` what none beats in all objectives."""

    plan: StudySpec
    trials: list[FrozenTrial]
    best: FrozenTrial | None
    front: list[FrozenTrial]

    @classmethod
    def of(cls, plan: StudySpec, study: SharedStudy) -> "Findings":
        trials = study.trials()
        complete = _ranked(trials)
        front = study.optuna.best_trials if complete and len(plan.objectives) > 1 else complete[:1]
        return cls(plan, trials, complete[0] if complete else None, sorted(front, key=lambda trial: -trial.values[0]))

    @property
    def default(self) -> FrozenTrial | None:
        """The complete trial with the configured values."""
        wanted = dict(self.plan.space.defaults)
        return next((t for t in self.trials if t.state == TrialState.COMPLETE and t.params == wanted), None)

    @property
    def is_default(self) -> bool:
        """Whether no trial was better than the configured values."""
        return self.best is not None and self.best.params == dict(self.plan.space.defaults)

    @property
    def failed(self) -> list[FrozenTrial]:
        return [t for t in self.trials if t.state == TrialState.FAIL and LOST not in t.user_attrs]

    def count(self, *states: TrialState) -> int:
        """Of those that were worked on."""
        return sum(trial.state in states for trial in self.trials if EMPTY not in trial.user_attrs)

    @property
    def best_settings(self) -> dict[str, Any]:
        """By dotted key; only of a study with a complete trial."""
        assert self.best is not None
        return self.plan.space.settings(self.best.params)

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            "study": self.plan.name,
            "objective": self.plan.objective,
            "seeds": list(self.plan.seeds),
            "holdout": self.plan.base.holdout,
            "best": _facts(self.best),
            "default": _facts(self.default),
            "is_default": self.is_default,
            "front": [_facts(trial) for trial in self.front],
            "trials": [_facts(trial) for trial in self.trials],
        }


def best_rows(findings: Findings) -> list[list[str]]:
    """Number, objectives, the configured values' objectives, parameters and seconds of the best trials.

    Of two objectives the Pareto front.
    """
    rows = findings.front if len(findings.plan.objectives) > 1 else _ranked(findings.trials)[:SHOWN]
    default = _values(findings.default)
    return [
        [
            str(trial.number),
            *(_number(value) for value in trial.values),
            default,
            format_params(trial.params),
            f"{trial.user_attrs.get(SECONDS, 0):.1f}",
        ]
        for trial in rows
    ]


def format_params(params: Mapping[str, Any]) -> str:
    """`train.batch_size=12 acquisition.taps=conv1+fc1`."""
    taps = [name.partition("/")[2] for name, chosen in params.items() if "/" in name and chosen]
    plain = [f"{name}={_number(value)}" for name, value in params.items() if "/" not in name]
    has_taps = any("/" in name for name in params)
    return " ".join([*plain, *([f"acquisition.taps={'+'.join(taps) or 'none'}"] if has_taps else [])])


def line(trial: FrozenTrial) -> str:
    """`trial 3: complete 0.8123; train.batch_size=12`."""
    reason = f" ({trial.user_attrs[REASON]})" if REASON in trial.user_attrs else ""
    return f"trial {trial.number}: {trial.state.name.lower()} {_values(trial)}{reason}; {format_params(trial.params)}"


def _ranked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Complete ones by their first objective, the best first; of equals the earlier."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (-trial.values[0], trial.number))


def _facts(trial: FrozenTrial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "values": trial.values,
        "params": trial.params,
        "labels": trial.last_step,
        "seconds": trial.user_attrs.get(SECONDS),
        "reason": trial.user_attrs.get(REASON),
        "run_id": trial.user_attrs.get("fkal.run_id"),
    }


def _values(trial: FrozenTrial | None) -> str:
    return "-" if trial is None or not trial.values else " ".join(_number(value) for value in trial.values)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1e4 else f"{value}"
