"""`fkal runs`: options and help of what reads the tracking store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json, Tracking

if TYPE_CHECKING:
    from fkal.tracking.query import RunFilter

app = typer.Typer(
    invoke_without_command=True,
    epilog="Examples:\n\n    fkal runs --dataset mnist --method pfk_joint,random\n\n"
    "    fkal runs rm --status failed\n\n    fkal runs export runs.parquet",
)

Dataset = Annotated[str | None, typer.Option(help="Of these datasets alone, comma-separated.")]
Bias = Annotated[str | None, typer.Option(help="Of these biases: ir100,longtail100.")]
Method = Annotated[str | None, typer.Option(help="Of these methods: random,pfk_joint,varr:k16.")]
Seed = Annotated[str | None, typer.Option(help="Of these seeds: 3, 0-4 or 0-2,7.")]
Status = Annotated[str | None, typer.Option(help="Of these: running,finished,failed,killed.")]
All = Annotated[bool, typer.Option("--all", help="Also runs that another run of the same experiment superseded.")]


@app.callback()
def list_(
    context: typer.Context,
    dataset: Dataset = None,
    bias: Bias = None,
    method: Method = None,
    seed: Seed = None,
    status: Status = None,
    superseded: All = False,
    tracking_uri: Tracking = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the experiments that are tracked, newest first; remove or export them."""
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    with cli_errors(debug):
        from fkal.cli import runs_table as showing_runs

        chosen = _wanted(dataset, bias, method, seed, status, superseded)
        showing_runs.show(chosen, tracking=tracking_uri, as_json=as_json)


@app.command(epilog="Examples:\n\n    fkal runs rm 1a2b3c4d\n\n    fkal runs rm --method random --seed 0-4")
def rm(
    runs: Annotated[list[str] | None, typer.Argument(help="Run ids, beginnings of ids, or names.")] = None,
    dataset: Dataset = None,
    bias: Bias = None,
    method: Method = None,
    seed: Seed = None,
    status: Status = None,
    superseded: All = False,
    tracking_uri: Tracking = None,
    out: Annotated[Path, typer.Option(help="Folder of finished rounds, as `fkal run` had it.")] = Path("runs"),
    state: Annotated[bool, typer.Option("--state", help="Remove the finished rounds as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Remove experiments and their rounds from the tracking store.

    They can be restored until `mlflow gc`. Finished rounds stay under --out, so that `fkal run`
    would track the experiment again; with --state they are removed too.
    """
    with cli_errors(debug):
        from fkal.cli import runs_remove as removing_runs

        chosen = _wanted(dataset, bias, method, seed, status, superseded)
        removing_runs.remove(runs or [], chosen, tracking=tracking_uri, out=out, with_state=state, yes=yes)


@app.command(epilog="Examples:\n\n    fkal runs export runs.csv --dataset mnist\n\n    fkal runs export - | head")
def export(
    file: Annotated[Path, typer.Argument(help="FILE.csv, FILE.parquet, or - for CSV on standard output.")],
    dataset: Dataset = None,
    bias: Bias = None,
    method: Method = None,
    seed: Seed = None,
    status: Status = None,
    superseded: All = False,
    tracking_uri: Tracking = None,
    debug: Debug = False,
) -> None:
    """Write one row for each experiment and round: ids, labels used, all metrics and settings.

    In a CSV, text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    with cli_errors(debug):
        from fkal.cli import runs_export as exporting_runs

        chosen = _wanted(dataset, bias, method, seed, status, superseded)
        exporting_runs.export(file, chosen, tracking=tracking_uri)


def _wanted(
    dataset: str | None, bias: str | None, method: str | None, seed: str | None, status: str | None, superseded: bool
) -> "RunFilter":
    from fkal.tracking.query import wanted

    return wanted(dataset=dataset, bias=bias, method=method, seed=seed, status=status, superseded=superseded)


def _refuse_misplaced(context: typer.Context) -> None:
    """A filter before `rm` would be one that `rm` does not see."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"options follow the command: fkal runs {context.invoked_subcommand} --option ...")
