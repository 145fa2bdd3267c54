"""`fkal label`: the labeling page, and labels that go to other programs and come back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json
from fkal.cli.terminal import echo, echo_json, say

if TYPE_CHECKING:
    from fkal.labeling.batch import Batch as AnyBatch
    from fkal.labeling.importing import Imported
    from fkal.labeling.project import Project

app = typer.Typer(
    invoke_without_command=True,
    epilog="Examples:\n\n    fkal label\n\n    fkal label import labels.csv\n\n    fkal label undo",
)

IMPORT_EXAMPLES = "Examples:\n\n    fkal label import rounds/01/to_label.csv\n\n    fkal label import sorted/"

EXPORT_EXAMPLES = "Examples:\n\n    fkal label export --to imagefolder sort/\n\n    fkal label export --to hf --labeled"
Batch = Annotated[str | None, typer.Option(help="A batch by its folder, say 01. [default: the first open one]")]
NoGuess = Annotated[bool, typer.Option("--no-guess", help="Leave out guesses, which sway people.")]
DocumentRoot = Annotated[
    Path | None, typer.Option(help="The folder that Label Studio serves local files from, above the images.")
]
Url = Annotated[str, typer.Option(help="Address of Label Studio, say http://localhost:8080.")]
ProjectId = Annotated[int, typer.Option(min=1, help="Number of the project there; it is in the project's address.")]
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
        from fkal.labeling.label_store import login

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
        from fkal.labeling.label_store import login

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


@app.command(epilog=EXPORT_EXAMPLES)
def export(
    to: Annotated[str, typer.Option(help="csv, labelstudio, imagefolder, coco, fiftyone or hf.")],
    place: Annotated[
        Path | None, typer.Argument(help="File or folder to write. [default: export/BATCH-FORMAT in the project]")
    ] = None,
    batch: Batch = None,
    labeled: Annotated[bool, typer.Option("--labeled", help="All labeled images, instead of those that wait.")] = False,
    no_guess: NoGuess = False,
    document_root: DocumentRoot = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the images that wait for a label, or all labeled ones, as files for another program.

    Images are copied with their rank in front of their names; their content is what joins labels to them again.
    """
    with cli_errors(debug):
        from fkal.labeling.exporting import batch_items, labeled_items
        from fkal.labeling.exporting import export as write

        found = opened(project)
        chosen = None if labeled else _waiting(found, batch)
        items = labeled_items(found) if chosen is None else batch_items(found, chosen)
        name = f"{'labeled' if chosen is None else chosen.folder.name}-{to}{'.csv' if to == 'csv' else ''}"
        target = place or found.folder / "export" / name
        with found.lock(say):
            told = write(found, items, to=to, place=target, guesses=not no_guess, document_root=document_root, say=say)
        if as_json:
            echo_json({"place": str(told.place), "images": told.images, "left_out": list(told.left_out)})
        else:
            echo(f"{told.place}: {told.images:,} images")


@app.command(epilog="Example:\n\n    fkal label push --url http://localhost:8080 --project-id 1 --document-root /data")
def push(
    url: Url,
    project_id: ProjectId,
    batch: Batch = None,
    no_guess: NoGuess = False,
    document_root: DocumentRoot = None,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Add the images that wait for a label to a project of Label Studio; those that it has are not added again.

    The token is read from LABEL_STUDIO_API_KEY: a legacy token or a personal access token.
    """
    with cli_errors(debug):
        from fkal.labeling.exporting import batch_items, hidden_guesses
        from fkal.labeling.label_studio import LabelStudio, token_from_environment
        from fkal.labeling.label_studio import push as add

        found = opened(project)
        server = LabelStudio(url, project_id, token_from_environment())
        with found.lock(say):
            items = batch_items(found, _waiting(found, batch))
            n = add(found, server, hidden_guesses(items) if no_guess else items, document_root)
        if as_json:
            echo_json({"added": n, "waiting": len(items)})
        else:
            echo(f"added {n:,} tasks; {len(items):,} images wait for a label")


@app.command(epilog="Example:\n\n    fkal label pull --url http://localhost:8080 --project-id 1 --partial")
def pull(
    url: Url,
    project_id: ProjectId,
    partial: Partial = False,
    allow_new_class: AllowNewClass = False,
    accept_extra: AcceptExtra = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take the labels of a Label Studio project into labels.csv, as `fkal label import` does."""
    with cli_errors(debug):
        from fkal.labeling.importing import ImportRules, import_given
        from fkal.labeling.label_studio import LabelStudio, token_from_environment

        found = opened(project)
        server = LabelStudio(url, project_id, token_from_environment())
        rules = ImportRules(allow_new_class=allow_new_class, accept_extra=accept_extra, partial=partial)
        told = import_given(found, server.labels(), rules, source=f"label studio {project_id}", say=say)
        show_imported(told, as_json=as_json)


def _waiting(project: "Project", name: str | None) -> "AnyBatch":
    """The batch that is meant. Raises ConfigError where none is open."""
    from fkal.cli.label_page import chosen_batch
    from fkal.errors import ConfigError

    batch = chosen_batch(project, name)
    if batch is None:
        raise ConfigError("no batch is open; make one: fkal select -n 100 (or give --labeled to export labels)")
    return batch


def opened(folder: Path | None) -> "Project":
    """The project that a command works on."""
    from fkal.labeling.project import Project

    return Project.open(folder) if folder is not None else Project.find(Path.cwd())


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
        echo(f"new class: {name}; it needs validation images: fkal val add")
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
