"""What is kept of a study beside its runs: the best values, a table of all trials, and drawings."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import pandas as pd
import yaml
from matplotlib import pyplot
from optuna.trial import TrialState

from fkal.results.csv_files import csv_bytes
from fkal.tuning.study import REASON, SECONDS
from fkal.tuning.study_spec import StudySpec

INCHES, DPI = (8, 4.5), 120


def write_study_files(folder: Path, study: optuna.Study, plan: StudySpec, best: Mapping[str, Any] | None) -> None:
    """`best.yaml`, `trials.csv`, and the figures that so many trials can make."""
    (folder / "trials.csv").write_bytes(csv_bytes(trials_frame(study, plan)))
    if best is not None:
        (folder / "best.yaml").write_text(yaml.safe_dump(dict(best), sort_keys=False))
    target = None if len(plan.objectives) == 1 else lambda trial: trial.values[0]
    name = plan.objectives[0].name
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varies = {trial.values[0] for trial in complete}
    draw = optuna.visualization.matplotlib
    if complete:
        _save(folder / "history.png", lambda: draw.plot_optimization_history(study, target=target, target_name=name))
    if len(complete) > 1:
        _save(
            folder / "parallel_coordinates.png",
            lambda: draw.plot_parallel_coordinate(study, target=target, target_name=name),
        )
    if len(complete) > 1 and len(plan.objectives) > 1:
        names = [each.name for each in plan.objectives]
        _save(folder / "pareto_front.png", lambda: draw.plot_pareto_front(study, target_names=names))
    if len(varies) > 1:
        _write_importances(folder, study, target, name)


def trials_frame(study: optuna.Study, plan: StudySpec) -> pd.DataFrame:
    """A row per trial."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **{each.name: v for each, v in zip(plan.objectives, trial.values or (), strict=False)},
            **trial.params,
            "labels": trial.last_step,
            "seconds": trial.user_attrs.get(SECONDS),
            "reason": trial.user_attrs.get(REASON, ""),
        }
        for trial in study.get_trials(deepcopy=False)
    ]
    return pd.DataFrame(rows)


def _write_importances(
    folder: Path, study: optuna.Study, target: Callable[[optuna.trial.FrozenTrial], float] | None, name: str
) -> None:
    """By fANOVA; its forest is seeded, so that one study has one answer. None of so few trials that no tree varies."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    except RuntimeError:  # a tree grows on a sample of the trials, which may all be one
        return
    importances = pd.DataFrame({"parameter": list(shares), "importance": list(shares.values())})
    (folder / "importances.csv").write_bytes(csv_bytes(importances))
    draw = optuna.visualization.matplotlib
    _save(
        folder / "importances.png",
        lambda: draw.plot_param_importances(study, evaluator=evaluator, target=target, target_name=name),
    )


def _save(path: Path, draw: Callable[[], Any]) -> None:
    """Optuna draws through pyplot, whose settings and figures are given back as they were."""
    with warnings.catch_warnings(), pyplot.rc_context():
        warnings.simplefilter("ignore")  # of experimental interfaces and of axes without width
        mpl.use("agg")
        draw()
        pyplot.gcf().set_size_inches(INCHES)
        pyplot.gcf().savefig(path, dpi=DPI, bbox_inches="tight")
        pyplot.close("all")
