"""The tables of results: which experiments are missing, their computing, the pages, and whether they hold.

    python benchmarks/results.py run --dry-run            # what is missing, and how many CPU-hours it takes
    python benchmarks/results.py run --minutes 60         # computes what is missing; stop and start it at will
    python benchmarks/results.py take runs/state          # rows of experiments that `fkal run` has finished
    python benchmarks/results.py tables                   # README and docs/results, between their markers
    python benchmarks/results.py check                    # the README's methods once more, compared with their rows
    python benchmarks/results.py curves mnist-ir100 curves.csv    # what `fkal report --curves` draws

`results.yaml` lists the experiments. The rows of a page are in docs/results/<page>/rows.csv.
"""

from pathlib import Path
from typing import Annotated

import typer
from result_pages import checking, computing, pages
from result_pages.grids import GRIDS, Machine, read_plan
from result_pages.missing import Missing, chosen_jobs, missing
from result_pages.rows import Pages, cpu_model

from fkal.atomic_files import write_whole
from fkal.cli.exit import FAILED, cli_errors
from fkal.cli.progress import round_display
from fkal.cli.terminal import echo
from fkal.config.params_file import seed_numbers
from fkal.results.csv_files import csv_bytes

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=(__doc__ or "").partition("\n\n")[0], rich_markup_mode=None
)
GridNames = Annotated[str | None, typer.Option("--grid", help="Grids of results.yaml, separated by commas.")]
Methods = Annotated[str | None, typer.Option(help="Only these methods, separated by commas.")]
Seeds = Annotated[str | None, typer.Option(help="Only these seeds, say 0-1.")]
Out = Annotated[Path, typer.Option(help="Where rounds are kept while they are made, as of `fkal run`.")]
DataRoot = Annotated[Path | None, typer.Option(envvar="FKAL_DATA_ROOT", help="Folder of the images.")]
Weights = Annotated[Path | None, typer.Option(help="File of the frozen backbone; without it it is downloaded.")]
Debug = Annotated[bool, typer.Option(help="Show tracebacks.")]
HERE = Pages()
"""The committed rows."""
FILES = pages.paths()
"""Where their tables may be."""


@app.command()
def run(
    grid: GridNames = None,
    methods: Methods = None,
    seeds: Seeds = None,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes; the next call goes on.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Experiments at work at once.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing, and compute nothing.")] = False,
    out: Out = Path("runs"),
    tracking_uri: Annotated[str | None, typer.Option(help="The tracking store, as of `fkal run`.")] = None,
    data_root: DataRoot = None,
    weights: Weights = None,
    debug: Debug = False,
) -> None:
    """Compute every experiment without rows of today, and add its rows as soon as it is finished.

    At the end the tables are written; after an interrupt, the command `tables` does it.
    """
    with cli_errors(debug):
        display = round_display(as_json=False)
        numbers = None if seeds is None else seed_numbers(seeds)
        wanted = chosen_jobs(read_plan(GRIDS).chosen(grid), Machine(data_root, weights), methods, numbers)
        found = missing(wanted, HERE, out, display.notify)
        echo("\n".join(summary(found, len(wanted))))
        if dry_run or not found:
            return
        try:
            with computing.for_minutes(minutes):
                lacking = [each.job for each in found]
                computing.compute(lacking, HERE, out=out, tracking=tracking_uri, workers=jobs, display=display)
        except computing.TimeUp:
            echo(f"{minutes:g} minutes are over; the same command goes on")
        write_tables()


def summary(found: list[Missing], total: int) -> list[str]:
    """A line per grid and tier that lacks rows, and the sum."""
    groups: dict[tuple[str, int], list[Missing]] = {}
    for each in found:
        groups.setdefault((each.job.grid.name, each.job.tier), []).append(each)
    lines = [
        f"{name}: {len(group)} missing{_stale(group)}, about {hours(group)} CPU-hours: "
        + ", ".join(dict.fromkeys(each.job.method for each in group))
        for (name, _), group in groups.items()
    ]
    return [*lines, f"{len(found)} of {total} experiments are missing, about {hours(found)} CPU-hours"]


def _stale(group: list[Missing]) -> str:
    stale = sum(each.is_stale for each in group)
    return f" ({stale} of them with rows of another fingerprint)" if stale else ""


def hours(found: list[Missing]) -> str:
    return f"{sum(each.seconds for each in found) / 3600:.1f}"


@app.command()
def take(
    state: Annotated[Path, typer.Argument(help="The folder `state` below --out of some `fkal run`.")],
    grid: GridNames = None,
    cpu: Annotated[str, typer.Option(help="The processor that it ran on; by default this machine's.")] = "",
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    weights: Weights = None,
    debug: Debug = False,
) -> None:
    """Add the rows of experiments that are finished elsewhere, where their fingerprint is today's."""
    with cli_errors(debug):
        display = round_display(as_json=False)
        wanted = chosen_jobs(read_plan(GRIDS).chosen(grid), Machine(data_root, weights))
        lacking = [each.job for each in missing(wanted, HERE, out, display.notify)]
        count = computing.take(lacking, HERE, state=state, cpu=cpu or cpu_model(), out=out, notify=display.notify)
        echo(f"{count} experiments taken, {len(lacking) - count} are missing")
        write_tables()


@app.command()
def tables(debug: Debug = False) -> None:
    """Write the tables of README and docs/results from the rows."""
    with cli_errors(debug):
        write_tables()


def write_tables() -> None:
    for path in pages.write_tables(FILES, read_plan(GRIDS), HERE):
        echo(f"changed: {path}")


@app.command()
def curves(
    grid: Annotated[str, typer.Argument(help="A grid of results.yaml.")],
    file: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    debug: Debug = False,
) -> None:
    """Write the rows of one grid as a CSV that `fkal report --curves` draws."""
    with cli_errors(debug):
        (chosen,) = read_plan(GRIDS).chosen(grid)
        write_whole(file, csv_bytes(pages.curves_of(chosen, HERE)))


@app.command()
def check(
    methods: Methods = None,
    seeds: Annotated[str, typer.Option(help="Seeds that are run again.")] = "0-1",
    jobs: Annotated[int, typer.Option(min=1, help="Experiments at work at once.")] = 1,
    data_root: DataRoot = None,
    debug: Debug = False,
) -> None:
    """Run the README's methods once more and compare with their rows; exit code 1 where they differ.

    On the processor and torch that a row was made with each digit counts. Elsewhere the mean area under the budget
    curve over a method's seeds is to be within a point or, where that is more, within three standard errors of the
    difference, by the scatter of all its seeds: another processor rounds differently, and training magnifies that.
    """
    with cli_errors(debug):
        plan = read_plan(GRIDS)
        wanted = chosen_jobs(
            [plan.grids[plan.readme_grid]],
            Machine(data_root),
            methods or ",".join(plan.readme_methods),
            seed_numbers(seeds),
        )
        pairs = checking.compared(wanted, HERE, workers=jobs, display=round_display(as_json=False))
        found = checking.differences(pairs)
        echo("\n".join(checking.report(pairs, found)))
        if found:
            raise typer.Exit(FAILED)


if __name__ == "__main__":
    app()
