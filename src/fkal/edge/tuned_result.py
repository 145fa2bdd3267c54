"""What a study found, written where experiments read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from fkal.edge.plan import Plan
from fkal.edge.progress import say
from fkal.edge.study_report import Findings
from fkal.tuned import read_tuned, refuse_hand_made, value_at, write_tuned


def written(path: Path, findings: Findings, *, apply: bool, force: bool) -> bool:
    """The tuned file, unless it was made by hand meanwhile; whether its values are applied."""
    assert findings.best is not None
    if not force:
        refuse_hand_made(path)
    plan, values = findings.plan, findings.best_settings
    applied = apply or (not force and _was_applied(path, plan, values))
    if not applied and path.exists() and not force and _is_applied(path):
        say(f"{path}: other values were applied; these are not yet: fkal tune --apply")
    write_tuned(
        path,
        values,
        {
            "name": plan.name,
            "objective": plan.objective,
            "value": findings.best.values[0],
            "default": findings.default.values[0] if findings.default else None,
            "seeds": list(plan.seeds),
            "trials": findings.count(TrialState.COMPLETE, TrialState.PRUNED),
            "holdout": plan.base.holdout,
            "applied": applied,
            "over": {key: value_at(plan.base.tree, key) for key in values},
        },
    )
    return applied


def _is_applied(path: Path) -> bool:
    study = read_tuned(path).study
    return study is not None and study.applied


def _was_applied(path: Path, plan: Plan, values: Mapping[str, Any]) -> bool:
    """Whether these values of this study are those that were applied before."""
    if not path.exists() or not _is_applied(path):
        return False
    tuned = read_tuned(path)
    return tuned.study is not None and tuned.study.name == plan.name and tuned.values == dict(values)
