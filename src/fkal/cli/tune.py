"""`fkal tune`: options and help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fkal.cli.exclusive_options import refuse_beside_apply
from fkal.cli.exit import cli_errors
from fkal.cli.options import (
    AcceptLicense,
    Backbone,
    DataRoot,
    Debug,
    DryRun,
    Embeddings,
    Json,
    Out,
    Params,
    Preset,
    Set,
    Tracking,
    expanded,
)
from fkal.paths import TUNED

TunedDataset = Annotated[str | None, typer.Option(help="The dataset whose settings are tuned: digits, svhn.")]
TunedMethod = Annotated[str | None, typer.Option(help="The method, as `fkal run` takes it; one.")]
TrialSeeds = Annotated[
    str | None, typer.Option(help="Seeds of each trial, averaged: 0-1. [default: the configured one]")
]
Trials = Annotated[
    int | None,
    typer.Option(help="Finished trials that the study shall have, earlier ones included. [default: 30]"),
]
Objective = Annotated[
    str,
    typer.Option(
        help="aubc, final, minority, aubc_balanced or balanced (held-out accuracy), or with the cost: aubc,cost."
    ),
]
Space = Annotated[
    str | None,
    typer.Option(
        help="Search these as well, comma-separated: lr, decay, epochs (train.decay_epochs move in proportion), "
        "combine, pseudo_label, matching, whitening, k, loss; pca of a frozen backbone. "
        "Searched anyway: batch_size and taps, of a frozen backbone loss and pca, or what the params file has under "
        "tune.space."
    ),
]
Holdout = Annotated[
    int | None,
    typer.Option(help="Validation images per class to measure on. [default: a fifth of validation_per_class]"),
]
Sampler = Annotated[str, typer.Option(help="tpe, random, gp, cmaes or nsgaii.")]
Pruner = Annotated[str | None, typer.Option(help="median, percentile, hyperband, halving or none. [default: median]")]
Storage = Annotated[
    str | None, typer.Option(help="Journal file, or a database's URL. [default: OUT/tune/STUDY.journal]")
]
TunedDir = Annotated[Path, typer.Option(help="Folder of the result, DATASET.yaml.")]
Apply = Annotated[
    bool,
    typer.Option(
        "--apply",
        help="Have experiments use the result that waits, and run nothing; "
        "with --trials, use what the study has found once it has so many.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a result that was edited by hand.")]


@dataclass(frozen=True)
class StudySettings:
    """The options that say around which settings a study searches."""

    dataset: TunedDataset = None
    preset: Preset = None
    params: Params = None
    assignments: Set = None
    data_root: DataRoot = None
    backbone: Backbone = None
    accept_license: AcceptLicense = None
    embeddings: Embeddings = None


@dataclass(frozen=True)
class Search:
    """The options that are no settings of an experiment."""

    trials: Trials = None
    objective: Objective = "aubc"
    space: Space = None
    holdout: Holdout = None
    sampler: Sampler = "tpe"
    pruner: Pruner = None
    storage: Storage = None
    tuned_dir: TunedDir = TUNED
    apply: Apply = False
    force: Force = False


TUNE_EXAMPLES = (
    "Examples:\n\n    fkal tune --dataset digits\n\n"
    "    fkal tune --preset mnist --method pfk_joint --seeds 0-1 --trials 30 --space lr,combine\n\n"
    "    fkal tune --dataset svhn --objective aubc,cost --space pseudo_label,k\n\n"
    "    fkal tune --dataset digits --apply"
)


@expanded
def tune(
    context: typer.Context,
    *,
    settings: StudySettings,
    method: TunedMethod = None,
    seeds: TrialSeeds = None,
    search: Search,
    out: Out = Path("runs"),
    tracking_uri: Tracking = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Search good settings for a dataset, on validation images that the method does not see.

    The study goes on where it was stopped, and several processes may work on it: start the same
    command as often as you like. The test set is not touched.
    """
    with cli_errors(debug):
        if search.apply and search.trials is None:
            from fkal.tuning import apply as applying

            refuse_beside_apply(context)
            from fkal.cli.apply_output import print_applied

            applied = applying.apply(
                search.tuned_dir, settings.dataset, settings.preset, settings.params, dry_run=dry_run
            )
            print_applied(applied, as_json=as_json)
            return
        from fkal.cli.progress import TERMINAL, round_display
        from fkal.cli.tune_output import print_study_plan, print_tuned
        from fkal.runner.expand import StartingPoint
        from fkal.tuning import tune as tuning

        trials = tuning.TRIALS if search.trials is None else search.trials
        options = tuning.TuneOptions(**{**vars(search), "trials": trials})
        given = tuning.sources(
            settings.dataset,
            settings.preset,
            settings.params,
            settings.data_root,
            settings.assignments or [],
            start=StartingPoint(
                backbone=settings.backbone,
                accept_license=settings.accept_license,
                embeddings=settings.embeddings,
            ),
            out=out,
        )
        if dry_run:
            plan = tuning.study_plan(
                given, method, seeds, options, out=out, tracking=tracking_uri, notify=TERMINAL.notify
            )
            print_study_plan(plan, options, as_json=as_json)
            return
        display = round_display(as_json=as_json)
        tuned = tuning.tune(given, method, seeds, options, out=out, tracking=tracking_uri, display=display)
        print_tuned(tuned, as_json=as_json)
