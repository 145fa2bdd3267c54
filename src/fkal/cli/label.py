"""`fkal label`: the labeling page, and labels that go to other programs and come back."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json
from fkal.cli.terminal import echo, echo_json, say

if TYPE_CHECKING:
    from fkal.labeling.importing import Imported
    from fkal.labeling.project import Project

app = typer.Typer(
    invoke_without_command=True,
    epilog="Examples:\n\n    fkal label\n\n    fkal label import labels.csv\n\n    fkal label undo",
)

IMPORT_EXAMPLES = "Examples:\n\n    fkal label import rounds/01/to_label.csv\n\n    fkal label import sorted/"

ProjectFolder = Annotated[
    Path | None, typer.Option("--project", help="Folder of the project. [default: this one or the nearest above it]")
]
AllowNewClass = Annotated[
    bool, typer.Option("--allow-new-class", help="Accept classes that classes.txt lacks, and add them to it.")
]
AcceptExtra = Annotated[bool, typer.Option("--accept-extra", help="Accept labels of images that no batch asks for.")]
Partial = Annotated[bool, typer.Option("--partial", help="Accept that images of a batch have no label yet.")]
Annotator = Annotated[str | None, typer.Option(help="Who labeled, where a file does not say. [default: your login]")]


@app.callback()
def page(
    context: typer.Context,
    batch: Annotated[
        str | None, typer.Option(help="A batch by its folder, say 01. [default: the first open one]")
    ] = None,
    annotator: Annotated[
        list[str] | None, typer.Option(help="Who labels; repeat it to split the batch. [default: your login]")
    ] = None,
    overlap: Annotated[int, typer.Option(min=0, help="Images that every annotator sees.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; other machines then need the links.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8100,
    guess: Annotated[
        bool | None,
        typer.Option("--guess/--no-guess", help="Show guesses, which sway people. [default: yes, but not in an audit]"),
    ] = None,
    allow_new_class: AllowNewClass = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
    project: ProjectFolder = None,
    debug: Debug = False,
) -> None:
    """Label the open batch in a page of your browser; import, export and undo labels.

    Each answer is in labels.csv before the next image shows. The page needs no network. It runs until Ctrl-C.
    Through SSH, forward the port first: ssh -L 8100:127.0.0.1:8100 HOST.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context)
        return
    with cli_errors(debug):
        from fkal.cli.label_page import PageOptions, serve

        options = PageOptions(
            batch=batch,
            annotators=tuple(annotator or [login()]),
            overlap=overlap,
            host=host,
            port=port,
            guesses=guess,
            new_classes=allow_new_class,
            opens=not no_browser,
        )
        serve(opened(project), options)


@app.command(
    "import", epilog="Examples:\n\n    fkal label import rounds/01/to_label.csv\n\n    fkal label import sorted/"
)
def import_(
    files: Annotated[
        list[Path], typer.Argument(help="CSV, JSON or JSON-MIN of Label Studio, or a folder with a folder per class.")
    ],
    partial: Partial = False,
    allow_new_class: AllowNewClass = False,
    accept_extra: AcceptExtra = False,
    annotator: Annotator = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take labels from files into labels.csv: all of them, or none and a line per problem.

    An image is found by its digest, then by its path, then by a file name that no other image has. A label
    `none_of_these` means that no class fits. Rows with the status `skipped` are left out, with their reason.
    """
    with cli_errors(debug):
        from fkal.labeling.importing import ImportRules, import_labels

        rules = ImportRules(
            allow_new_class=allow_new_class,
            accept_extra=accept_extra,
            partial=partial,
            annotator=login() if annotator is None else annotator,
        )
        show_imported(import_labels(opened(project), files, rules, say=say), as_json=as_json)


@app.command(epilog="Example:\n\n    fkal label undo")
def undo(
    annotator: Annotated[str | None, typer.Option(help="Only labels of this annotator.")] = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take back the last import, or what the page wrote of the last batch, as one action.

    labels.csv gets rows `undone`; labels that were there before count again. Undo once more for the action before.
    """
    with cli_errors(debug):
        from fkal.labeling.answers import label_store
        from fkal.labeling.label_store import last_action, now

        found = opened(project)
        with found.lock(say):
            rows = label_store(found).undo(lambda rows: last_action(rows, annotator), time=now())
        if as_json:
            echo_json({"taken_back": len(rows), "source": rows[0].source if rows else None})
        elif rows:
            echo(f"took back {len(rows):,} labels of {rows[0].source or 'rows by hand'}, from {rows[-1].time}")
        else:
            echo("there is nothing to take back")


def opened(folder: Path | None) -> "Project":
    """The project that a command works on."""
    from fkal.labeling.project import Project

    return Project.open(folder) if folder is not None else Project.find(Path.cwd())


def login() -> str:
    """The annotator where none is named: last rows count per annotator, so one person needs one name everywhere."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in the system's list
        return ""


def show_imported(found: "Imported", *, as_json: bool) -> None:
    if as_json:
        echo_json(
            {
                **{status: found.count(status) for status in ("labeled", "skipped", "none_of_these")},
                "known": found.known,
                "new_classes": list(found.new_classes),
                "missing": dict(found.missing),
            }
        )
        return
    skipped, none = found.count("skipped"), found.count("none_of_these")
    more = [f"{skipped:,} skipped"] * bool(skipped) + [f"{none:,} of no class"] * bool(none)
    more += [f"{found.known:,} known before"] * bool(found.known)
    echo(", ".join([f"{found.count('labeled'):,} labels", *more]))
    for name in found.new_classes:
        echo(f"new class: {name}")
    for folder, n in found.missing.items():
        echo(f"batch {folder}: {f'{n:,} images wait for a label' if n else 'all images have their answer'}")


def _refuse_misplaced(context: typer.Context) -> None:
    """An option before `import` would be one that `import` does not see."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"options follow the command: fkal label {context.invoked_subcommand} --option ..."
            )
