"""What a study found, written where experiments read it."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from fkal.acquisition.registry import acquisition, acquisition_of
from fkal.config.layers import Layer, from_environment, merged
from fkal.config.method_spec import method_layer
from fkal.config.schema import Config, configured
from fkal.config.tuned import nested, read_tuned, refuse_hand_made, value_at, write_tuned
from fkal.experiment.names import method_name
from fkal.notify import Notify
from fkal.paths import TUNED
from fkal.runner.expand import Sources
from fkal.tuning.results import Findings
from fkal.tuning.study_spec import StudySpec


def written(path: Path, findings: Findings, *, apply: bool, force: bool, notify: Notify) -> bool:
    """The tuned file, unless it was made by hand meanwhile; whether its values are applied."""
    assert findings.best is not None
    if not force:
        refuse_hand_made(path)
    plan, values = findings.plan, findings.best_settings
    applied = apply or (not force and _was_applied(path, plan, values))
    if not applied and path.exists() and not force and _is_applied(path):
        notify(f"{path}: other values were applied; these are not yet: {apply_command(path)}")
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
            **({"source": plan.source} if plan.source else {}),
            "applied": applied,
            "over": {key: value_at(plan.file.tree, key) for key in values},
        },
    )
    return applied


def overridden_settings(values: Mapping[str, Any], file: Config, given: Sources, method: str | None) -> list[str]:
    """Tuned values that change nothing although they are applied, a line a key and method, with the reason.

    The methods are those of the params file's grid, and the one that was tuned.
    """
    layers = [Layer("file", file.tree), Layer("tuned", nested(values))]
    lines = []
    for name, said in methods_concerned(given, method).items():
        lines += [f"on {name}: {line}" for line in _overruled(values, [*layers, said], "its name says")]
    environment = from_environment(given.environment)
    set_there = {key: value for key, value in values.items() if _has(environment.values, key)}
    return [*lines, *_overruled(set_there, [*layers, environment], "the environment says")]


def methods_concerned(given: Sources, method: str | None) -> dict[str, Layer]:
    """What the names say that experiments will use the values with. Raises ConfigError for one that is unknown."""
    params = given.file()
    names = [*(params.grid.method if params.grid else ()), *([method] if method else [])]
    said = {name: method_layer(params.short_name(name)) for name in names}
    for name, layer in said.items():
        configured(f"{params.origin}: grid.method {name}", acquisition, merged([layer]).acquisition.name)
    return said


def _has(tree: Mapping[str, Any], key: str) -> bool:
    section, name = key.split(".")
    return name in tree.get(section, {})


def _overruled(values: Mapping[str, Any], layers: list[Layer], who: str) -> Iterator[str]:
    """Whose value another layer replaces, or which the method does not read."""
    config = merged(layers)
    reads = acquisition_of(config.acquisition).reads(config.acquisition.pseudo_label)
    for key, value in values.items():
        section, name = key.split(".")
        there = config.tree[section][name]
        if there != value:
            yield f"{key} = {value} has no effect, since {who} {there}"
        elif section == "acquisition" and name not in reads:
            yield f"{key} = {value} has no effect, since {method_name(config)} does not read it"


def apply_command(path: Path) -> str:
    """The command that has experiments use the values of a tuned file."""
    elsewhere = "" if path.parent == TUNED else f"cp {shlex.quote(str(path))} {shlex.quote(str(TUNED))} && "
    return f"{elsewhere}fkal tune --dataset {shlex.quote(path.stem)} --apply"


def _is_applied(path: Path) -> bool:
    study = read_tuned(path).study
    return study is not None and study.applied


def _was_applied(path: Path, plan: StudySpec, values: Mapping[str, Any]) -> bool:
    """Whether these values of this study are those that were applied before."""
    if not path.exists() or not _is_applied(path):
        return False
    tuned = read_tuned(path)
    return tuned.study is not None and tuned.study.name == plan.name and tuned.values == dict(values)
