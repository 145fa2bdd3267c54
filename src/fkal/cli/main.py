"""The command line: options and help. What a command does stands in the module it imports."""

from pathlib import Path
from typing import Annotated

import typer

from fkal.cli import runs as runs_cli
from fkal.cli import ui as ui_cli
from fkal.cli.exclusive import refuse_beside_apply, refuse_beside_plan
from fkal.cli.exit import answered
from fkal.cli.terminal import echo, prepare_streams, say
from fkal.cli.usage import OneLineErrors
from fkal.paths import TUNED
from fkal.version import __version__

app = typer.Typer(
    name="fkal",
    cls=OneLineErrors,
    help="Find the images worth labeling when the unlabeled pool is biased.",
    epilog="Start with:  fkal run --preset digits --method random,pfk",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.add_typer(runs_cli.app, name="runs")
app.command(epilog=ui_cli.EPILOG)(ui_cli.ui)

Preset = Annotated[
    str | None, typer.Option(help="Packaged settings: digits, mnist, cifar10, svhn, tinyimagenet, imagenet.")
]
Params = Annotated[Path | None, typer.Option(help="A params file instead of ./params.yaml.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, say train.lr=0.1. Repeatable."),
]
Dataset = Annotated[
    str | None, typer.Option(help="A dataset of the params file, or the preset of that name. [default: the grid's]")
]
Ratio = Annotated[str | None, typer.Option(help="Class imbalance ratios: 1,100. [default: the grid's]")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder that holds the datasets. [default: $FKAL_DATA_ROOT or data]")
]
Method = Annotated[
    str | None,
    typer.Option(
        help="Methods, comma-separated: random, pfk_joint, varr; marks after : (varr:e4:k32, pfk_joint:sum, "
        ":random_theta_0, :head_only), taps after @ (pcc@conv2)."
    ),
]
Seeds = Annotated[str | None, typer.Option(help="Seeds: 3, 0-4 or 0-2,7. [default: the configured one]")]
PlanFile = Annotated[
    Path | None,
    typer.Option(help="Be a stage of the pipeline: do what this file of `fkal plan` says."),
]
Untuned = Annotated[bool, typer.Option("--untuned", help="Leave out what `fkal tune --apply` put over the settings.")]
Tracking = Annotated[str | None, typer.Option(help="MLflow store. [default: $MLFLOW_TRACKING_URI or ./mlflow.db]")]
Root = Annotated[Path, typer.Option(help="Folder of what the pipeline publishes.")]
Out = Annotated[Path, typer.Option(help="Folder for splits, weights, finished iterations and curves.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Read the files of datasets again where nothing says that they changed.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, and stop.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    prepare_streams()
    if version:
        echo(f"fkal {__version__}")
        raise typer.Exit


@app.command(
    epilog="Examples:\n\n    fkal run\n\n"
    "    fkal run --preset mnist --method random,pfk_joint --seeds 0-4\n\n"
    "    fkal run --preset mnist --set bias.ratio=1 --set acquisition.combine=sum"
)
def run(
    context: typer.Context,
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    method: Method = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    tracking_uri: Tracking = None,
    plan: PlanFile = None,
    jobs: Annotated[
        int, typer.Option(envvar="FKAL_JOBS", help="Experiments at work at once, each in a process of its own.")
    ] = 1,
    untuned: Untuned = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once where another process works on the same experiment.")
    ] = False,
    verify: Verify = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run active-learning experiments, each iteration a tracked MLflow run.

    One experiment for each method and seed. Finished iterations are kept under --out: the same
    command goes on where it was stopped, and does nothing once all is done. What another process
    works on is waited for.
    """
    with answered(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.progress import TERMINAL
            from fkal.cli.run_output import print_finished
            from fkal.pipeline import stages

            staged = stages.experiment(plan, out, tracking_uri, jobs, wait=not no_wait, display=TERMINAL)
            print_finished(staged, as_json=False)
            return
        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            tuned=None if untuned else TUNED,
            out=out,
            verify=verify,
        )
        configs = configuring.experiments(sources, method, seeds)
        from fkal.cli.progress import TERMINAL
        from fkal.cli.run_output import print_finished, print_plan
        from fkal.runner import run as running

        if dry_run:
            planned = running.plan_runs(configs, out=out, tracking=tracking_uri, jobs=jobs, notify=TERMINAL.notify)
            print_plan(planned, out, as_json=as_json)
            return
        finished = running.run(configs, out=out, tracking=tracking_uri, jobs=jobs, wait=not no_wait, display=TERMINAL)
        print_finished(finished, as_json=as_json)


@app.command(
    epilog="Examples:\n\n    fkal cost --preset mnist --method random,pfk_joint,pfk_trace:k128\n\n"
    "    fkal cost --preset svhn --method varr:e4:k16,vaal --json"
)
def cost(
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    method: Method = None,
    seeds: Seeds = None,
    untuned: Untuned = False,
    out: Out = Path("runs"),
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Forward and backward passes: Table 1 of the paper beside what was counted.

    What was not run yet is predicted, from the configuration alone. Counts are those that `fkal run`
    left under --out, and the ratio is counted to Table 1; where they are not what the method should
    cost, the exit code is 1. Pretraining, which methods share, is no part of it.
    """
    with answered(debug):
        from fkal.runner import expand as configuring

        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            tuned=None if untuned else TUNED,
            out=out,
        )
        configs = configuring.experiments(sources, method, seeds)
        from fkal.cli import cost as costs

        run = costs.run_command(sources, method, seeds, out)
        costs.show(configs, out=out, run=run, as_json=as_json)


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
    str, typer.Option(help="aubc, final or minority (held-out accuracy), or with the cost: aubc,cost.")
]
Space = Annotated[
    str | None,
    typer.Option(
        help="Search these as well, comma-separated: lr, decay, epochs (train.decay_epochs move in proportion), "
        "combine, pseudo_label, matching, whitening, k. "
        "Searched anyway: batch_size and taps, or what the params file has under tune.space."
    ),
]
Holdout = Annotated[
    int | None,
    typer.Option(help="Validation images a class to measure on. [default: a fifth of validation_per_class]"),
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


@app.command(
    epilog="Examples:\n\n    fkal tune --dataset digits\n\n"
    "    fkal tune --preset mnist --method pfk_joint --seeds 0-1 --trials 30 --space lr,combine\n\n"
    "    fkal tune --dataset svhn --objective aubc,cost --space pseudo_label,k\n\n"
    "    fkal tune --dataset digits --apply"
)
def tune(
    context: typer.Context,
    dataset: TunedDataset = None,
    preset: Preset = None,
    params: Params = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    method: TunedMethod = None,
    seeds: TrialSeeds = None,
    trials: Trials = None,
    objective: Objective = "aubc",
    space: Space = None,
    holdout: Holdout = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = None,
    storage: Storage = None,
    tuned_dir: TunedDir = TUNED,
    apply: Apply = False,
    force: Force = False,
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
    with answered(debug):
        if apply and trials is None:
            from fkal.tuning import apply as applying

            refuse_beside_apply(context)
            from fkal.cli.apply_output import print_applied

            print_applied(applying.apply(tuned_dir, dataset, preset, params, dry_run=dry_run), as_json=as_json)
            return
        from fkal.cli.progress import TERMINAL
        from fkal.cli.tune_output import print_study_plan, print_tuned
        from fkal.tuning import tune as tuning

        wanted = tuning.TRIALS if trials is None else trials
        wishes = tuning.Wishes(wanted, objective, space, holdout, sampler, pruner, storage, tuned_dir, apply, force)
        given = tuning.sources(dataset, preset, params, data_root, assignments or [], out=out)
        if dry_run:
            plan = tuning.study_plan(
                given, method, seeds, wishes, out=out, tracking=tracking_uri, notify=TERMINAL.notify
            )
            print_study_plan(plan, wishes, as_json=as_json)
            return
        tuned = tuning.tune(given, method, seeds, wishes, out=out, tracking=tracking_uri, display=TERMINAL)
        print_tuned(tuned, as_json=as_json)


@app.command(epilog="Example:\n\n    fkal split --preset mnist --seeds 0-4 --set bias.ratio=100")
def split(
    context: typer.Context,
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Draw biased splits and write them as files that `fkal run` uses."""
    with answered(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_splits
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_splits(stages.split(plan, out, TERMINAL), as_json=False)
            return
        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            out=out,
        )
        configs = configuring.experiments(sources, None, seeds)
        from fkal.cli.prepare_output import print_splits
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        print_splits(preparing.split(configs, out=out, display=TERMINAL), as_json=as_json)


@app.command(epilog="Example:\n\n    fkal pretrain --preset mnist --seeds 0-4")
def pretrain(
    context: typer.Context,
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pretrain theta^0 by rotation on the biased pool, for every method of `fkal run` to share."""
    with answered(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_pretrained
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_pretrained(stages.pretrain(plan, out, TERMINAL), as_json=False)
            return
        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            out=out,
        )
        configs = configuring.experiments(sources, None, seeds)
        from fkal.cli.prepare_output import print_pretrained
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        print_pretrained(preparing.pretrain(configs, out=out, display=TERMINAL), as_json=as_json)


@app.command(epilog="Example:\n\n    fkal descriptors --preset mnist --method pcc,pfk_joint --seeds 0-4")
def descriptors(
    context: typer.Context,
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    method: Method = None,
    seeds: Seeds = None,
    out: Out = Path("runs"),
    plan: PlanFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Describe pool and validation images by theta^0 and keep the descriptors, for first iterations to read.

    Experiments whose training alone differs then describe nothing in their first iteration. Large pools make
    large files: 4 bytes a feature and as many a gradient for each image, method and seed.
    """
    with answered(debug):
        from fkal.runner import expand as configuring

        if plan is not None:
            refuse_beside_plan(context)
            from fkal.cli.prepare_output import print_descriptors
            from fkal.cli.progress import TERMINAL
            from fkal.pipeline import stages

            print_descriptors(stages.descriptors(plan, out, TERMINAL), as_json=False)
            return
        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            out=out,
        )
        configs = configuring.experiments(sources, method, seeds)
        from fkal.cli.prepare_output import print_descriptors
        from fkal.cli.progress import TERMINAL
        from fkal.runner import prepare as preparing

        print_descriptors(preparing.descriptors(configs, out=out, display=TERMINAL), as_json=as_json)


@app.command(
    epilog="Example:\n\n    fkal grid --dataset mnist --ratio 1,100 --method random,pfk_joint --seeds 0-4 > params.yaml"
)
def grid(
    dataset: Annotated[str, typer.Option(help="Presets, comma-separated.")],
    ratio: Annotated[str, typer.Option(help="Class imbalance ratios: 1,100.")] = "100",
    method: Annotated[str, typer.Option(help="Methods, as `fkal run` takes them.")] = "random,pfk_joint",
    seeds: Annotated[str, typer.Option(help="Seeds: 3, 0-4 or 0-2,7.")] = "0-4",
    debug: Debug = False,
) -> None:
    """Print a params.yaml for the pipeline: a grid of experiments, and the settings of its datasets."""
    with answered(debug):
        from fkal.cli.grid import grid_text

        datasets, ratios, methods = ([w.strip() for w in text.split(",")] for text in (dataset, ratio, method))
        echo(grid_text(datasets, ratios, methods, seeds), nl=False)


@app.command("plan", epilog="Example:\n\n    fkal plan --params params.yaml")
def plan_(
    params: Params = None,
    root: Root = Path("data"),
    out: Out = Path("runs"),
    verify: Verify = False,
    debug: Debug = False,
) -> None:
    """Resolve the grid of params.yaml into a file for each stage of the pipeline, with just what that stage reads.

    The first stage of `dvc repro`, which always runs it: it looks whether the images have changed. It also takes back
    into --out what was published and is not there.
    """
    with answered(debug):
        from fkal.pipeline import plan as planning

        cells = planning.plan(params, root, out, say, verify=verify)
        echo(f"{root / planning.PLAN}: {cells} cells")


@app.command(epilog="Examples:\n\n    dvc pull && fkal sync\n\n    fkal sync --out runs")
def sync(
    root: Root = Path("data"),
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    tracking_uri: Tracking = None,
    debug: Debug = False,
) -> None:
    """Bring the tracking store up to what the pipeline published and to what `fkal run` left under --out.

    After `dvc pull`, a hit in DVC's cache, or the loss of the store. Nothing is computed. What cannot be brought up is
    reported, and the exit code is 3.
    """
    with answered(debug):
        from fkal.pipeline import sync as syncing

        syncing.sync(root, out, tracking_uri, data_root, notify=say, tell=echo)


@app.command(
    epilog="Examples:\n\n    fkal report --to report\n\n    fkal report --out runs --method random,pfk_joint\n\n"
    "    fkal report --out runs --against pfk_joint\n\n"
    "    fkal report --curves docs/results/curves.csv"
)
def report(
    root: Root = Path("data"),
    out: Annotated[
        Path | None, typer.Option(help="Report what `fkal run` left in this folder, instead of the pipeline's.")
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Report the curves of this CSV alone, as `fkal run` writes it.")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="Report the runs of this MLflow store; with --out, where settings of older runs are found."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="Of these methods alone, comma-separated.")] = None,
    reach: Annotated[str, typer.Option(help="Accuracies, in %, to count the labels for.")] = "80,90,95",
    test: Annotated[str, typer.Option(help="Test of paired differences: t or wilcoxon.")] = "t",
    against: Annotated[
        str | None, typer.Option(help="Hold each method against this one alone, not each pair.", metavar="METHOD")
    ] = None,
    data_root: DataRoot = None,
    to: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    debug: Debug = False,
) -> None:
    """Make one page of finished experiments: figures, tables, and what they prove.

    TO/index.html holds all it shows; the figures are under TO/figures as PNG and SVG, the tables under
    TO/tables as CSV, where text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    with answered(debug):
        from fkal.report import build as reporting
        from fkal.report.load.source import material

        wishes = reporting.wishes(method, reach, test, data_root, against)
        found = material(root=root, out=out, curves=curves, tracking=tracking_uri)
        reporting.report(found, to, wishes, notify=say, tell=echo)


RunName = Annotated[
    str,
    typer.Argument(
        help="A finished experiment: its name (mnist-ir100-random-s0), the name that MLflow shows "
        "('random s0 mnist ir100'), or the beginning of its fingerprint; in a store, of its run's id."
    ),
]
KeptOut = Annotated[Path | None, typer.Option(help="Folder of what `fkal run` left. [default: runs]")]
KeptTracking = Annotated[
    str | None,
    typer.Option(help="Read the runs of this MLflow store; with --out, where settings of older runs are found."),
]


@app.command(
    epilog="Examples:\n\n    fkal show mnist-ir100-pfk_joint-s0\n\n"
    "    fkal show mnist-ir100-pfk_joint-s0 --tracking-uri sqlite:///mlflow.db"
)
def show(run: RunName, out: KeptOut = None, tracking_uri: KeptTracking = None, debug: Debug = False) -> None:
    """Print one finished experiment: its curve, a row an iteration, the classes that it picked."""
    with answered(debug):
        from fkal.cli import show as one_run

        one_run.show(run, out=out, tracking=tracking_uri)


@app.command(epilog="Example:\n\n    fkal compare mnist-ir100-random-s0 mnist-ir100-pfk_joint-s0")
def compare(
    first: RunName,
    second: RunName,
    out: KeptOut = None,
    tracking_uri: KeptTracking = None,
    debug: Debug = False,
) -> None:
    """Print two finished experiments side by side: settings that differ, curves, which images both picked."""
    with answered(debug):
        from fkal.cli import show as one_run

        one_run.compare(first, second, out=out, tracking=tracking_uri)


@app.command(epilog="Example:\n\n    fkal config --preset svhn --set train.lr=0.05")
def config(
    preset: Preset = None,
    params: Params = None,
    dataset: Dataset = None,
    ratio: Ratio = None,
    assignments: Set = None,
    data_root: DataRoot = None,
    method: Method = None,
    untuned: Untuned = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the resolved configuration and its digest."""
    with answered(debug):
        from fkal.runner import expand as configuring

        sources = configuring.Sources(
            preset=preset,
            params=params,
            dataset=dataset,
            ratio=ratio,
            data_root=data_root,
            assignments=assignments or [],
            tuned=None if untuned else TUNED,
        )
        echo(configuring.shown(configuring.settings(sources, method), as_json=as_json), nl=False)


@app.command("list", epilog="Example:\n\n    fkal list acquisitions")
def list_(
    what: Annotated[str, typer.Argument(help="datasets, models, acquisitions, pseudo-labels or presets")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what can be named in a configuration."""
    with answered(debug):
        from fkal.cli import listing

        listing.show(what, as_json=as_json)


if __name__ == "__main__":
    app()
