"""`fkal report`, `fkal show` and `fkal compare`: options and help."""

from pathlib import Path
from typing import Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import DataRoot, Debug, Root
from fkal.cli.terminal import echo

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

REPORT_EXAMPLES = (
    "Examples:\n\n    fkal report --to report\n\n    fkal report --out runs --method random,pfk_joint\n\n"
    "    fkal report --out runs --against pfk_joint\n\n"
    "    fkal report --curves curves.csv"
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
    reach: Annotated[
        str | None,
        typer.Option(help="Accuracies, in %, to count the labels for: 80,90. [default: what the curves reach]"),
    ] = None,
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
    with cli_errors(debug):
        from fkal.cli.progress import phase_display
        from fkal.report import build as reporting
        from fkal.report.load.source import material

        options = reporting.report_options(method, reach, test, data_root, against)
        found = material(root=root, out=out, curves=curves, tracking=tracking_uri)
        reporting.report(found, to, options, display=phase_display(), tell=echo)


SHOW_EXAMPLES = (
    "Examples:\n\n    fkal show mnist-ir100-pfk_joint-s0\n\n"
    "    fkal show mnist-ir100-pfk_joint-s0 --tracking-uri sqlite:///mlflow.db"
)


def show(run: RunName, out: KeptOut = None, tracking_uri: KeptTracking = None, debug: Debug = False) -> None:
    """Print one finished experiment: its curve, a row per round, the classes that it picked."""
    with cli_errors(debug):
        from fkal.cli import show as one_run

        one_run.show(run, out=out, tracking=tracking_uri)


COMPARE_EXAMPLES = "Example:\n\n    fkal compare mnist-ir100-random-s0 mnist-ir100-pfk_joint-s0"


def compare(
    first: RunName,
    second: RunName,
    out: KeptOut = None,
    tracking_uri: KeptTracking = None,
    debug: Debug = False,
) -> None:
    """Print two finished experiments side by side: settings that differ, curves, which images both picked."""
    with cli_errors(debug):
        from fkal.cli import show as one_run

        one_run.compare(first, second, out=out, tracking=tracking_uri)
