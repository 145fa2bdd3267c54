"""The command line: its commands by name. What a command takes is declared in the module of its subject."""

from typing import Annotated

import typer

from fkal.cli import label, merge, pipeline, project, project_data, report, reproduce, run, runs, tune, ui
from fkal.cli.exclusive_options import refuse_beside_schema, refuse_under_torchrun
from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json, Method, Settings, Untuned, expanded
from fkal.cli.terminal import echo, prepare_streams
from fkal.cli.usage import OneLineErrors
from fkal.version import __version__

app = typer.Typer(
    name="fkal",
    cls=OneLineErrors,
    help="Find the images worth labeling when the unlabeled pool is biased.",
    epilog="Start with:  fkal run --preset digits --method random,pfk",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.add_typer(runs.app, name="runs")
app.add_typer(project_data.pool, name="pool")
app.add_typer(project_data.val, name="val")
app.add_typer(label.app, name="label")
app.add_typer(project.export, name="export")
app.command(epilog=ui.EPILOG)(ui.ui)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    prepare_streams()
    if version:
        echo(f"fkal {__version__}")
        raise typer.Exit
    with cli_errors(False):
        refuse_under_torchrun(context.invoked_subcommand)


app.command(epilog=project_data.INIT_EXAMPLES)(project_data.init)
app.command(epilog=project.SELECT_EXAMPLES)(project.select)
app.command(epilog=project.TRAIN_EXAMPLE)(project.train)
app.command("next", epilog=project.NEXT_EXAMPLE)(project.next_)
app.command(epilog=project.STATUS_EXAMPLE)(project.status)
app.command(epilog=project.AUDIT_EXAMPLE)(project.audit)
app.command(epilog=project.PREDICT_EXAMPLE)(project.predict)
app.command(epilog=project.RELABEL_EXAMPLE)(project.relabel)
app.command(epilog=run.RUN_EXAMPLES)(run.run)
app.command(epilog=run.COST_EXAMPLES)(run.cost)
app.command(epilog=tune.TUNE_EXAMPLES)(tune.tune)
app.command(epilog=pipeline.SPLIT_EXAMPLES)(pipeline.split)
app.command(epilog=pipeline.PRETRAIN_EXAMPLES)(pipeline.pretrain)
app.command(epilog=pipeline.EMBED_EXAMPLES)(pipeline.embed)
app.command("descriptors", hidden=True, epilog=pipeline.EMBED_EXAMPLES)(pipeline.embed)  # its name in dvc.yaml
app.command(epilog=pipeline.GRID_EXAMPLES)(pipeline.grid)
app.command("plan", epilog=pipeline.PLAN_EXAMPLES)(pipeline.plan_)
app.command(epilog=pipeline.SYNC_EXAMPLES)(pipeline.sync)
app.command(epilog=merge.MERGE_EXAMPLE)(merge.merge)
app.command(epilog=report.REPORT_EXAMPLES)(report.report)
app.command(epilog=report.SHOW_EXAMPLES)(report.show)
app.command(epilog=report.COMPARE_EXAMPLES)(report.compare)
app.command(epilog=reproduce.REPRODUCE_EXAMPLES)(reproduce.reproduce)


@app.command(epilog="Examples:\n\n    fkal config --preset svhn --set train.lr=0.05\n\n    fkal config --schema")
@expanded
def config(
    context: typer.Context,
    settings: Settings,
    method: Method = None,
    untuned: Untuned = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of params files, for editors.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the resolved configuration and its digest."""
    with cli_errors(debug):
        if schema:
            refuse_beside_schema(context)
            from fkal.config.json_schema import schema_text

            echo(schema_text(), nl=False)
            return
        from fkal.runner import expand as configuring

        sources = settings.sources(untuned=untuned)
        echo(configuring.shown(configuring.settings(sources, method), as_json=as_json), nl=False)


@app.command("list", epilog="Example:\n\n    fkal list acquisitions")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(help="datasets, models, acquisitions, pseudo-labels, matchings or presets.", show_default=False),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what a configuration can name: datasets, models, acquisitions, pseudo-labels, matchings or presets."""
    with cli_errors(debug):
        from fkal.cli import listing

        listing.show(what, as_json=as_json)


if __name__ == "__main__":
    app()
