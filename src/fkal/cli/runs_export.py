"""`fkal runs export`: one row per experiment and round, with all its metrics and parameters."""

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkal.atomic_files import write_whole
from fkal.cli.terminal import echo, say
from fkal.cli.usage import path_problem
from fkal.config.schema import ConfigError
from fkal.errors import refuse_damaged, shortened
from fkal.results.csv_files import csv_text
from fkal.tracking.metrics import stored_metrics
from fkal.tracking.query import UNREADABLE, FoundRun, RunFilter, find_runs, iterations, metric_flaw, open_store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

NUMBER = re.compile("[1-9][0-9]{0,5}")
STDOUT = Path("-")
SUFFIXES = (".csv", ".parquet")
KEPT = ("run_id", "name", "dataset", "bias", "method", "seed", "protocol", "status", "superseded")


def export(path: Path, wanted: RunFilter, *, tracking: str | None) -> None:
    """Write them as what the file's suffix says, `-` as CSV on standard output; the file is there whole or not at all.

    Raises ConfigError for a file that cannot be.
    """
    if path != STDOUT:
        _refuse_unwritable(path)
    client = open_store(tracking)
    listing = find_runs(client, wanted)
    rounds = [(run, iterations(client, run)) for run in listing.runs]
    frame, odd = run_frame([(run, found.runs) for run, found in rounds])
    odd += [f"run {run_id}: {UNREADABLE}; left out" for _, found in rounds for run_id in found.unreadable]
    if path == STDOUT:
        echo(csv_text(frame), nl=False)
    else:
        content = io.BytesIO()
        if path.suffix == ".csv":
            content.write(csv_text(frame).encode())
        else:
            frame.to_parquet(content, index=False)
        write_whole(path, content.getvalue())
        say(f"{path}: {len(frame)} rounds of {frame['run_id'].nunique()} experiments")
    refuse_damaged([*listing.damaged, *odd])


def run_frame(runs: Sequence[tuple[FoundRun, Sequence["Run"]]]) -> tuple["pd.DataFrame", list[str]]:
    """A row per round: whose it is, its metrics, then its parameters, numbers where all are numbers.

    Beside it, why rounds are left out that cannot be read.
    """
    import pandas as pd

    tracked = [(run, child) for run, children in runs for child in children if "labels_used" in child.data.metrics]
    flaws = {child.info.run_id: _odd(child) for _, child in tracked}
    rounds = Counter((run.run_id, child.data.params.get("b")) for run, child in tracked)
    for run, child in tracked:
        if not flaws[child.info.run_id] and rounds[run.run_id, child.data.params["b"]] > 1:
            flaws[child.info.run_id] = f"run {child.info.run_id}: another one is round {child.data.params['b']} as well"
    odd = [f"{flaw}; left out" for flaw in flaws.values() if flaw]
    told = [(run, child) for run, child in tracked if not flaws[child.info.run_id]]
    if not told:
        lines = [f"none of these {len(runs)} experiments has finished a round; there is nothing to export", *odd]
        raise ConfigError("\n".join(lines))
    names = sorted({name for _, child in told for name in stored_metrics(child.data.metrics)} - {"labels_used"})
    keys = sorted({key for _, child in told for key in child.data.params} - {*KEPT, "b"})
    columns = [*KEPT, "iteration_run_id", "b", "labels_used", *names, *keys]
    frame = pd.DataFrame([_row(run, child) for run, child in told], columns=columns)
    for key in keys:
        frame[key] = _numbers(frame[key])
    return frame.sort_values([*KEPT[2:6], "run_id", "b"], ignore_index=True), odd


def _odd(child: "Run") -> str:
    """Why it is no round; empty if it is one."""
    b = child.data.params.get("b", "")
    if not NUMBER.fullmatch(b):
        return f"run {child.info.run_id}: its param b is {b[:40]!a}, and no round's number"
    if flaw := metric_flaw(stored_metrics(child.data.metrics)):
        return f"run {child.info.run_id}: {flaw}"
    return ""


def _row(run: FoundRun, child: "Run") -> dict[str, Any]:
    metrics, params = stored_metrics(child.data.metrics), child.data.params
    fields = run._asdict()
    return {
        **params,
        **metrics,
        **{key: fields[key] for key in KEPT},
        "iteration_run_id": child.info.run_id,
        "b": int(params["b"]),
        "labels_used": int(metrics["labels_used"]),
    }


def _numbers(column: Any) -> Any:
    import pandas as pd

    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def _refuse_unwritable(path: Path) -> None:
    if why := path_problem(str(path)):
        raise ConfigError(f"{shortened(str(path))}: {why}")
    if path.suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: exports are {' or '.join(SUFFIXES)}; say so by the file's name, or `-` for CSV here"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it, or name another")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file")
