"""`fkal tune`: trials one after another until the study has enough, then what they found, written down."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from fkal.config.documents import file_there
from fkal.config.layers import Layer, from_assignments, merged
from fkal.config.params_file import seed_numbers
from fkal.config.schema import Config, ConfigError
from fkal.config.tuned import refuse_hand_made, tuned_path
from fkal.data.errors import MissingData
from fkal.data.file_digests import FileDigests
from fkal.errors import MissingWeights, did_you_mean, shortened
from fkal.experiment.experiment import Experiment, prepare
from fkal.experiment.names import shown_name
from fkal.notify import PLAIN, Display, Notify
from fkal.runner import expand as configuring
from fkal.runner.expand import image_source
from fkal.runner.out_folder import refuse_no_folder, refuse_unusable
from fkal.runner.run import names_own_files
from fkal.tracking.store import tracking_uri
from fkal.tuning.apply import refuse_unread
from fkal.tuning.objectives import MINORITY, objectives
from fkal.tuning.results import Findings, line
from fkal.tuning.samplers import pruner_named, sampler_named
from fkal.tuning.search_space import search_space
from fkal.tuning.study import REASON, SharedStudy, storage_named, studies_beside
from fkal.tuning.study_spec import StudySpec
from fkal.tuning.tracking import StudyRun
from fkal.tuning.trial import run_trial
from fkal.tuning.tuned_result import methods_concerned, overridden_settings, written

TRIALS = 30
MOST_TRIALS = 100_000
LONGEST_STUDY = 240
"""Bytes of its name, which a file and a stored run have."""
POLL_SECONDS = 0.5
MOST_NAMED = 3
"""Other studies in a message."""


@dataclass(frozen=True)
class TuneOptions:
    """The options of `fkal tune` that are no settings of an experiment."""

    trials: int
    objective: str
    space: str | None
    holdout: int | None
    sampler: str
    pruner: str | None
    storage: str | None
    tuned_dir: Path
    apply: bool
    force: bool


NOWHERE = configuring.StartingPoint()
"""No pretrained model and no embeddings but those of the settings."""


class NoneFinished(ValueError):
    """Every trial of a study failed."""


def sources(
    dataset: str | None,
    preset: str | None,
    params: Path | None,
    data_root: Path | None,
    assignments: Sequence[str],
    *,
    out: Path,
    start: configuring.StartingPoint = NOWHERE,
    verify: bool = False,
) -> configuring.Sources:
    """The settings around which a study searches: what an earlier one found is no part of them."""
    if dataset and preset:
        raise ConfigError(f"--dataset {dataset}: --preset names the settings, too; give one of them")
    return configuring.Sources(
        preset=preset,
        params=params,
        dataset=dataset,
        data_root=data_root,
        start=start,
        assignments=assignments,
        tuned=None,
        out=out,
        verify=verify,
    )


class Tuned(NamedTuple):
    """What a study found, the file that holds it, whether it is applied, which values have no effect, and where."""

    findings: Findings
    path: Path
    is_applied: bool
    overridden_settings: list[str]
    run_id: str
    tracking_uri: str


def tune(
    given: configuring.Sources,
    method: str | None,
    seeds: str | None,
    options: TuneOptions,
    *,
    out: Path,
    tracking: str | None,
    display: Display = PLAIN,
) -> Tuned:
    """Bring the study to so many finished trials; the same command goes on, and does nothing when they are there."""
    uri = tracking_uri(tracking, Path.cwd())
    plan = planned(given, method, seeds, options, out)
    path = tuned_path(options.tuned_dir, plan.dataset)
    if not options.force:
        refuse_hand_made(path)
    first = _checked(plan, options, out, display.notify)
    plan = _of_images(plan, given.digests())
    study = _study(plan, options, first, display.notify)
    run = StudyRun(plan, first, study, uri)
    with run:
        worked = _work(plan, study, run, options.trials, display)
    findings = Findings.of(plan, study)
    if findings.best is None:
        run.finish(None)
        raise NoneFinished(_why_none(findings))
    if worked or not run.is_finished:
        run.finish(findings.best_settings)
    applied = written(path, findings, apply=options.apply, force=options.force, notify=display.notify)
    idle = overridden_settings(findings.best_settings, plan.file, given, method)
    return Tuned(findings, path, applied, idle, run.run_id, uri)


class StudyPlan(NamedTuple):
    """A study, and whether the images and weights are here, by which it is named and its trials are found."""

    spec: StudySpec
    is_known: bool


def study_plan(
    given: configuring.Sources,
    method: str | None,
    seeds: str | None,
    options: TuneOptions,
    *,
    out: Path,
    tracking: str | None,
    notify: Notify,
) -> StudyPlan:
    """What `tune` would search, checked; nothing is run, downloaded or written."""
    tracking_uri(tracking, Path.cwd())
    plan = planned(given, method, seeds, options, out)
    refuse_no_folder(out)
    try:
        experiments = [prepare(config, out, notify, looks_only=True) for config in plan.default_configs]
    except (MissingData, MissingWeights) as error:
        if names_own_files(plan.base):
            raise
        notify(f"{shown_name(plan.base)}: {error}")
        return StudyPlan(plan, is_known=False)
    _refuse_unmet(plan, options, experiments[0])
    return StudyPlan(_of_images(plan, given.digests(looks_only=True)), is_known=True)


def _of_images(plan: StudySpec, digests: FileDigests) -> StudySpec:
    """The plan with the digest of the files that its images come from, which are there by now."""
    return replace(plan, source=image_source(plan.base.data, digests))


def _checked(plan: StudySpec, options: TuneOptions, out: Path, notify: Notify) -> Experiment:
    """The first experiment of the study, once all of them and the options are known to be possible."""
    refuse_unusable(out)
    experiments = [prepare(config, out, notify) for config in plan.default_configs]
    _refuse_unmet(plan, options, experiments[0])
    return experiments[0]


def planned(
    given: configuring.Sources, method: str | None, seeds: str | None, options: TuneOptions, out: Path
) -> StudySpec:
    """Raises ConfigError for options that cannot be met."""
    config = configuring.settings(given, method)
    if options.trials < 1:
        raise ConfigError(f"--trials {options.trials}: give at least 1")
    if options.trials > MOST_TRIALS:
        raise ConfigError(f"--trials {options.trials}: give at most {MOST_TRIALS:,}")
    base = _held_out(config, options.holdout)
    more = [name.strip() for name in options.space.split(",")] if options.space else []
    numbers = seed_numbers(seeds) if seeds else [base.seed]
    _refuse_contradicted(given, numbers if seeds else [], options.holdout)
    methods_concerned(given, method)
    plan = StudySpec(
        base=base,
        file=_file(given),
        space=search_space(base, more, _space_section(given)),
        objectives=objectives(options.objective),
        seeds=tuple(numbers),
        out=out,
    )
    _refuse_unknown(plan, options)
    if options.apply:
        refuse_unread(tuned_path(options.tuned_dir, plan.dataset))
    return plan


def _refuse_contradicted(given: configuring.Sources, seeds: Sequence[int], holdout: int | None) -> None:
    """Raises ConfigError where --set says otherwise than an option of the study."""
    options = [Layer("--seeds", {"seed": seed}) for seed in seeds]
    options += [] if holdout is None else [Layer("--holdout", {"holdout": holdout})]
    configuring.refuse_contradictions(from_assignments(given.assignments), options)


def _refuse_unknown(plan: StudySpec, options: TuneOptions) -> None:
    """Raises ConfigError for samplers, pruners and names of studies that cannot be, before anything is written."""
    sampler_named(options.sampler, plan.space, n_objectives=len(plan.objectives))
    if options.pruner is not None:
        pruner_named(options.pruner, budget=1, rounds=1)
    if len(os.fsencode(plan.name)) > LONGEST_STUDY:
        raise ConfigError(
            f"the study's name {shortened(plan.name)} has {len(plan.name)} characters; at most {LONGEST_STUDY} fit: "
            "name fewer taps"
        )
    if options.storage is not None and "://" not in options.storage:
        journal = Path(options.storage)
        if file_there(journal, f"--storage {journal}") and not journal.is_file():
            raise ConfigError(f"--storage {journal}: no regular file; name a journal file, or a database by its URL")
    if options.tuned_dir.exists() and not options.tuned_dir.is_dir():
        raise ConfigError(f"--tuned-dir {options.tuned_dir}: is a file; name a folder")


def _file(given: configuring.Sources) -> Config:
    """What the params file says of the dataset, beneath the method, the environment and --set."""
    file = replace(given.file(), grid=None)
    return merged(given.settings(file, given.datasets(file)[0]))


def _held_out(base: Config, holdout: int | None) -> Config:
    """By option, else as configured, else a fifth of the validation images of each class."""
    if base.data.validation is not None and holdout is None and not base.holdout:
        raise ConfigError("--holdout: not set: say how many images per class of data.validation to measure on")
    fifth = max(1, base.data.validation_per_class // 5)
    chosen = holdout if holdout is not None else base.holdout or fifth
    if chosen < 1:
        raise ConfigError(f"--holdout {chosen}: give at least 1 image a class, on which trials are measured")
    if holdout is not None and base.data.validation is None and holdout >= base.data.validation_per_class:
        raise ConfigError(
            f"--holdout {holdout}: the validation set has {base.data.validation_per_class} images per class and the "
            f"method needs some; give at most {base.data.validation_per_class - 1}"
        )
    return base.model_copy(update={"holdout": chosen})


def _space_section(given: configuring.Sources) -> Mapping[str, Any] | None:
    """`tune.space` of the params file."""
    section = given.file().tune
    if section is None:
        return None
    if not isinstance(section, Mapping) or not isinstance(section.get("space"), Mapping):
        raise ConfigError("tune: give a section with a space, say tune: {space: {train.batch_size: [10, 25, 50]}}")
    for key in (*section, *section["space"]):
        if not isinstance(key, str):
            raise ConfigError(f"tune: the key {shortened(key)} is no name; keys are names such as train.lr")
    unknown = [key for key in section if key != "space"]
    if unknown:
        raise ConfigError(
            f"tune.{unknown[0][:60]}: unknown key; {did_you_mean(unknown[0], ['space'])}known here: space"
        )
    return section["space"]


def _refuse_unmet(plan: StudySpec, options: TuneOptions, first: Experiment) -> None:
    """Raises ConfigError for options that these data, or two objectives, cannot meet."""
    if any(each.name == "minority" for each in plan.objectives) and not first.problem.minority:
        raise ConfigError(f"--objective {plan.objective}: no class is under-represented, so {MINORITY} is not known")
    if len(plan.objectives) > 1 and options.pruner not in (None, "none"):
        raise ConfigError(f"--pruner {options.pruner}: trials of two objectives are not pruned; leave it out")


def _study(plan: StudySpec, options: TuneOptions, first: Experiment, notify: Notify) -> SharedStudy:
    pruner = options.pruner or ("median" if len(plan.objectives) == 1 else "none")
    storage = storage_named(options.storage, plan, notify)
    if others := studies_beside(storage, plan):
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        notify(
            f"{plan.name} is a new study; not continued: {', '.join(others[:MOST_NAMED])}{more} "
            "(other settings or images, or named by an earlier version of fkal)"
        )
    return SharedStudy(
        plan,
        storage,
        sampler=sampler_named(options.sampler, plan.space, n_objectives=len(plan.objectives)),
        pruner=pruner_named(pruner, budget=first.budget, rounds=first.rounds),
    )


def _work(plan: StudySpec, study: SharedStudy, run: StudyRun, wanted: int, display: Display) -> int:
    """Trials until so many are finished, those of other processes included; how many were worked on here.

    As many failures as trials were lacking are enough: a study whose trials all fail comes to an end.
    """
    lacking = wanted - len(study.finished())
    worked, failures, told = 0, 0, False
    while failures < lacking:
        trial = study.next_trial(wanted, _on_lost(run, display.notify))
        if trial is None:
            others = study.waits_for()
            if not others:
                break
            if not told:
                display.notify(f"waiting for {len(others)} trials that other processes work on")
                told = True
            time.sleep(POLL_SECONDS)
            continue
        run.begin()
        try:
            state = run_trial(plan, study, trial, run, display)
        except UpdateFinishedTrialError:
            display.notify(f"trial {trial.number}: another worker took this one for gone, and has taken the trial over")
            continue
        worked, failures = worked + 1, failures + (state == TrialState.FAIL)
        display.notify(line(study.optuna.get_trials(deepcopy=False)[trial.number]))
    return worked


def _on_lost(run: StudyRun, notify: Notify) -> Callable[[FrozenTrial], None]:
    def tell(trial: FrozenTrial) -> None:
        notify(f"trial {trial.number}: {trial.user_attrs.get(REASON, 'its worker is gone; it is queued again')}")
        run.lost(trial)

    return tell


def _why_none(findings: Findings) -> str:
    reasons = [line(trial) for trial in findings.failed]
    return "no trial is complete: " + ("; ".join(reasons[:3]) if reasons else "all were pruned")
