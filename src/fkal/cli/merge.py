"""`fkal merge`: what shards of a grid left, in one folder."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fkal.cli.exit import cli_errors
from fkal.cli.options import Debug
from fkal.cli.terminal import echo, say
from fkal.errors import refuse_damaged

MERGE_EXAMPLE = "Example:\n\n    fkal merge shard0 shard1 --out runs && fkal sync --out runs && fkal report --out runs"


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Folders that `fkal run --out` named.")],
    out: Annotated[Path, typer.Option(help="The folder that they come into; what is there stays.")] = Path("runs"),
    debug: Debug = False,
) -> None:
    """Bring the finished rounds of several folders into one, as `fkal run --shard` leaves them.

    Experiments are known by their settings, so nothing comes twice. The tracking store is not touched: `fkal sync`
    then tracks what came. What does not fit is reported, and the exit code is 3.
    """
    with cli_errors(debug):
        from fkal.results.merging import merge as merged

        found = merged(folders, out, say)
        echo(f"{out}: {found.came} experiments came or grew, {found.there} were there before")
        if found.came:
            echo(f"track them: fkal sync --out {shlex.quote(str(out))}")
        refuse_damaged(found.left_out)
