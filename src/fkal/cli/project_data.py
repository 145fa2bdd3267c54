"""`fkal init`, `fkal val` and `fkal pool`: the images of a project."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug, Json
from fkal.errors import ConfigError

if TYPE_CHECKING:
    from fkal.labeling.project import Project

INIT_EXAMPLES = (
    "Examples:\n\n    fkal init my-project --pool photos --val checked\n\n"
    "    fkal init my-project --pool images.csv --groups '([^/]+)_[^/]*$' --drop-leaks"
)
VAL_EXAMPLES = (
    "Examples:\n\n    fkal val start -n 200\n\n    fkal val add checked/\n\n    fkal val add a.jpg b.jpg --label stop"
)
POOL_EXAMPLE = "Example:\n\n    fkal pool add more-photos"

ProjectFolder = Annotated[
    Path | None, typer.Option("--project", help="The project. [default: this folder or the nearest above it]")
]
DropLeaks = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out images that are also in another part, instead of stopping.")
]

NO_BACKBONE = "none"

val = typer.Typer(help="The validation set of a project.", no_args_is_help=True)
pool = typer.Typer(help="The unlabeled images of a project.", no_args_is_help=True)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the project; it is made if need be.")],
    pools: Annotated[
        list[str],
        typer.Option("--pool", help="Unlabeled images: a folder tree, or a list as CSV, Parquet or JSON lines."),
    ],
    validation: Annotated[
        list[str] | None,
        typer.Option("--val", help="Validation images: a folder per class, or a list with labels. Repeatable."),
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="Test images, in the same form.")] = None,
    labeled: Annotated[
        list[str] | None, typer.Option(help="Images of the pool that have labels already, in the same form.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="A pretrained model, torchvision:NAME or timm:NAME, or none for a network that learns from scratch. "
            "[default: timm:vit_small_patch14_dinov2 with timm, else torchvision:resnet50]"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Weights of the backbone: a name, a file, or an id of the Hugging Face hub. [default: DEFAULT]"
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(help="Images that belong together: a regular expression on paths with captures, or a column."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the project. [default: that of the folder]")] = None,
    drop_leaks: DropLeaks = False,
    dvc: Annotated[bool, typer.Option("--dvc", help="Also write a stage for DVC.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a project of your own images: look at them once, list them, write a params file.

    Files that cannot be read are listed in quarantine.csv with the reason. Exact copies are collapsed. The same
    command again adds what is new. Nothing is downloaded; images behind URLs are read by the first `fkal select`.
    """
    with cli_errors(debug):
        from fkal.cli.listing import suggested_backbone
        from fkal.cli.progress import phase_display
        from fkal.cli.project_data_output import print_init
        from fkal.labeling.init import InitOptions
        from fkal.labeling.init import init as make

        if backbone == NO_BACKBONE and weights is not None:
            raise ConfigError(f"--weights {weights}: --backbone none takes none; name the backbone, or leave it out")
        options = InitOptions(
            pools=tuple(pools),
            validation=tuple(validation or ()),
            test=tuple(test or ()),
            labeled=tuple(labeled or ()),
            backbone=None if backbone == NO_BACKBONE else backbone or suggested_backbone(),
            weights=weights or "DEFAULT",
            model_is_named=not (backbone is None and weights is None),
            groups=groups,
            name=name,
            drop_leaks=drop_leaks,
            dvc=dvc,
        )
        print_init(make(folder, options, phase_display()), as_json=as_json)


@pool.command("add", epilog=POOL_EXAMPLE)
def pool_add(
    places: Annotated[list[str], typer.Argument(metavar="PATH...", help="Folders or lists of unlabeled images.")],
    drop_leaks: DropLeaks = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Add images to the pool, also those that are new in a folder that it has already."""
    with cli_errors(debug):
        from fkal.cli.progress import phase_display
        from fkal.cli.project_data_output import print_part
        from fkal.labeling.growing import add_to_pool

        found, display = opened(project), phase_display()
        workers = found.config().data.workers
        with found.lock(display.notify):
            summary = add_to_pool(found, places, display, drop_leaks=drop_leaks, workers=workers)
        print_part(found, summary, as_json=as_json)


@val.command("add", epilog=VAL_EXAMPLES)
def val_add(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="A folder per class, lists with labels, or image files.")
    ],
    label: Annotated[str | None, typer.Option(help="The class of image files.")] = None,
    drop_leaks: DropLeaks = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Add labeled images to the validation set, say images that a model got wrong.

    Images of the pool may join: they are no longer asked for or trained on.
    """
    with cli_errors(debug):
        from fkal.cli.progress import phase_display
        from fkal.cli.project_data_output import print_part
        from fkal.labeling.validation import add_validation

        found, display = opened(project), phase_display()
        workers = found.config().data.workers
        with found.lock(display.notify):
            summary = add_validation(found, files, display, label=label, drop_leaks=drop_leaks, workers=workers)
        print_part(found, summary, as_json=as_json)


@val.command("start", epilog=VAL_EXAMPLES)
def val_start(
    n: Annotated[int, typer.Option("-n", min=1, help="Images to label.")] = 200,
    cancel: Annotated[bool, typer.Option("--cancel", help="Withdraw the open validation batch.")] = False,
    project: ProjectFolder = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask for labels of a random sample of the pool, which becomes the validation set once it is labeled.

    While it is open, the same call prints it again.
    """
    with cli_errors(debug):
        from fkal.cli.progress import phase_display
        from fkal.cli.project_data_output import print_start, print_withdrawn
        from fkal.labeling.validation import adopt_validation, start_validation, withdraw_validation

        found, display = opened(project), phase_display()
        config = found.config()
        with found.lock(display.notify):
            if cancel:
                print_withdrawn(withdraw_validation(found), as_json=as_json)
                return
            adopted = adopt_validation(found.reread())
            fresh = found.open(found.folder)
            start = start_validation(fresh, n, display, seed=config.seed, workers=config.data.workers)
        print_start(start, adopted, as_json=as_json)


def opened(folder: Path | None) -> "Project":
    """The project that a command works on."""
    from fkal.labeling.project import Project

    return Project.find(Path()) if folder is None else Project.open(folder)
