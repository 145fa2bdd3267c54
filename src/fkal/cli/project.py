"""The rounds of a project: `fkal select`, `train`, `next`, `audit` and `relabel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json, Set

if TYPE_CHECKING:
    from fkal.labeling.learner import Learner
    from fkal.labeling.project import Project
    from fkal.labeling.rounds import SelectOptions, Trained
    from fkal.notify import Display

SELECT_EXAMPLES = (
    "Examples:\n\n    fkal select -n 500\n\n    fkal select -n 200 --method margin\n\n    fkal select --cancel"
)
TRAIN_EXAMPLE = "Example:\n\n    fkal train"
NEXT_EXAMPLE = "Example:\n\n    fkal next -n 500"
STATUS_EXAMPLE = "Example:\n\n    fkal status"
PREDICT_EXAMPLE = "Examples:\n\n    fkal predict new-photos\n\n    fkal predict new-photos --out predictions.csv"
EXPORT_EXAMPLE = "Examples:\n\n    fkal export model\n\n    fkal export model --format onnx --out signs.onnx"
AUDIT_EXAMPLE = "Example:\n\n    fkal audit -n 100"
RELABEL_EXAMPLE = "Example:\n\n    fkal relabel -n 50"

ProjectFolder = Annotated[
    Path | None, typer.Option("--project", help="The project. [default: this folder or the nearest above it]")
]
Count = Annotated[int | None, typer.Option("-n", help="Images to label. [default: acquisition.budget]")]
Method = Annotated[
    str | None, typer.Option(help="How images are chosen: fisher_coverage, margin, random, ... [default: the params']")
]
Dedup = Annotated[
    float | None,
    typer.Option(help="Of images with at least this cosine similarity ask for one. `fkal status` suggests a value."),
]
ShareLabels = Annotated[bool, typer.Option("--share-labels", help="With --dedup: near-copies get the same label.")]
Tracking = Annotated[
    str | None, typer.Option(help="MLflow store. [default: $MLFLOW_TRACKING_URI or mlflow.db in the project]")
]
Exclude = Annotated[
    Path | None, typer.Option(help="Images to leave out: a file with a path a line, or a table with a column path.")
]


Withdraw = Annotated[bool, typer.Option("--cancel", help="Withdraw the open batch; its labels stay.")]


def select(
    n: Count = None,
    method: Method = None,
    dedup: Dedup = None,
    share_labels: ShareLabels = False,
    exclude: Exclude = None,
    more: Annotated[bool, typer.Option("--more", help="Open a further batch while one is open.")] = False,
    cancel: Withdraw = False,
    assignments: Set = None,
    tracking_uri: Tracking = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Choose the images to label next, and write them to rounds/NN/to_label.csv.

    While that batch is open, the same call shows it again. Where groups are known (a track, a video, a patient), a
    batch has one image per group until the groups run out.
    """
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import rounds

        options = _options(n, method, dedup, share_labels, exclude, more, assignments)
        found = opened(project)
        display = phase_display(as_json=as_json)
        if cancel:
            if options != rounds.SelectOptions():
                from fkal.errors import ConfigError

                raise ConfigError("--cancel withdraws the open batch; give it alone")
            output.show_withdrawn(rounds.cancel(found, display), as_json=as_json)
            _mirror(found, display, tracking_uri)
            return
        asked = rounds.select(found, options, display)
        _mirror(found, display, tracking_uri)
        output.show_batch(asked, as_json=as_json)


def train(
    assignments: Set = None,
    tracking_uri: Tracking = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train on what is labeled. Ends with exit code 5 where labels of the open batch are missing."""
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import rounds

        found, display = opened(project), phase_display(as_json=as_json)
        trained = rounds.train(found, assignments or (), display)
        _mirror(found, display, tracking_uri, trained.learner)
        output.show_training(trained, as_json=as_json)


def next_(
    n: Count = None,
    method: Method = None,
    dedup: Dedup = None,
    share_labels: ShareLabels = False,
    exclude: Exclude = None,
    assignments: Set = None,
    tracking_uri: Tracking = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train on what is labeled, then choose the images to label next."""
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import rounds

        options = _options(n, method, dedup, share_labels, exclude, False, assignments)
        found, display = opened(project), phase_display(as_json=as_json)

        def trained_alone(trained: Trained) -> None:
            _mirror(found, display, tracking_uri, trained.learner)
            if not as_json:
                output.show_training(trained, as_json=False)

        trained, asked = rounds.next_(found, options, display, when_refused=trained_alone)
        _mirror(found, display, tracking_uri, trained.learner)
        output.show_next(trained, asked, as_json=as_json)


def status(project: ProjectFolder = None, as_json: Json = False, debug: Debug = False) -> None:
    """What was labeled, how good the model is and how sure that is, and whether to go on."""
    with cli_errors(debug):
        from fkal.cli import project_status
        from fkal.labeling.status import status as found

        project_status.show(found(opened(project)), as_json=as_json)


def audit(
    n: Annotated[int, typer.Option("-n", help="Images to label.")] = 100,
    cancel: Withdraw = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask for a random sample of the unlabeled images, for an unbiased estimate of accuracy on them.

    Images that a method chose are a biased sample. `fkal status` gives the estimate once these are labeled.
    """
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import rounds

        display = phase_display(as_json=as_json)
        if cancel:
            output.show_withdrawn(rounds.cancel(opened(project), display, kind="audit"), as_json=as_json)
            return
        output.show_batch(rounds.audit(opened(project), n, display), as_json=as_json)


def relabel(
    n: Annotated[int, typer.Option("-n", help="Images to check.")] = 50,
    cancel: Withdraw = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask again for the labeled images whose label the model finds least probable.

    A label that was checked already is not asked for again.
    """
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import rounds

        display = phase_display(as_json=as_json)
        if cancel:
            output.show_withdrawn(rounds.cancel(opened(project), display, kind="relabel"), as_json=as_json)
            return
        asked = rounds.relabel(opened(project), n, display)
        if asked is None:
            output.show_agreement(as_json=as_json)
            return
        output.show_batch(asked, as_json=as_json)


export = typer.Typer(help="What a project made, for other programs.", no_args_is_help=True)


def predict(
    place: Annotated[str, typer.Argument(metavar="DIR", help="Images: a folder tree, or a list of them.")],
    out: Annotated[Path, typer.Option(help="A .parquet or .csv file with path, label, probability and flaw.")] = Path(
        "predictions.parquet"
    ),
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What the trained model takes new images for. A file that cannot be read gets its flaw and no label."""
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import predicting

        predicted = predicting.predict(opened(project), place, out, phase_display(as_json=as_json))
        output.show_predicted(predicted, as_json=as_json)


@export.command("model", epilog=EXPORT_EXAMPLE)
def export_model(
    out: Annotated[Path | None, typer.Option(help="The file. [default: model.safetensors or model.onnx]")] = None,
    format_: Annotated[str, typer.Option("--format", help="safetensors or onnx.")] = "safetensors",
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the trained model with its classes and with how images become its inputs."""
    with cli_errors(debug):
        from fkal.cli import project_output as output
        from fkal.cli.progress import phase_display
        from fkal.labeling import predicting

        kind = predicting.known_format(format_)
        path = Path(f"model.{kind}") if out is None else out
        written = predicting.export_model(opened(project), path, kind, phase_display(as_json=as_json))
        output.show_exported(written, as_json=as_json)


def simulate(
    project: Path | None,
    truth: Path | None,
    *,
    method: str | None,
    seeds: str | None,
    assignments: list[str] | None,
    as_json: bool,
) -> None:
    """What `fkal run --project DIR --truth FILE` does."""
    from fkal.cli import project_output as output
    from fkal.cli.progress import phase_display
    from fkal.config.params_file import seed_numbers
    from fkal.errors import ConfigError
    from fkal.labeling import simulating

    if project is None or truth is None:
        raise ConfigError("--project and --truth belong together; give the project's folder and a table of its labels")
    options = simulating.SimulationOptions(
        methods=[None] if method is None else [name.strip() for name in method.split(",")],
        seeds=[None] if seeds is None else seed_numbers(seeds),
        assignments=tuple(assignments or ()),
    )
    found = simulating.simulate(opened(project), truth, options, phase_display(as_json=as_json))
    output.show_simulated(found, as_json=as_json)


def opened(folder: Path | None) -> Project:
    """The project of `--project`, or of the current folder or the nearest above it."""
    from fkal.labeling.project import Project

    return Project.find(Path.cwd()) if folder is None else Project.open(folder)


def _mirror(project: Project, display: Display, uri: str | None, learner: Learner | None = None) -> None:
    """What is on disk goes to MLflow, in the folder of the project unless another store is named."""
    from fkal.labeling.tracking import mirror

    mirror(project, display, uri=uri, learner=learner)


def _options(
    n: int | None,
    method: str | None,
    dedup: float | None,
    share_labels: bool,
    exclude: Path | None,
    more: bool,
    assignments: list[str] | None,
) -> SelectOptions:
    from fkal.labeling.rounds import SelectOptions

    return SelectOptions(
        n=n,
        method=method,
        dedup=dedup,
        exclude=exclude,
        more=more,
        share_labels=share_labels,
        assignments=tuple(assignments or ()),
    )
