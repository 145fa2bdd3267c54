"""`fkal runs`: the experiments of the tracking store as a table or JSON."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table

from fkal.cli.terminal import console, echo_json
from fkal.config.method_spec import short_method_name
from fkal.errors import refuse_damaged
from fkal.redaction import redacted
from fkal.tracking.query import FoundRun, RunFilter, find_runs, open_store

WIDTH = 200
"""Columns of a table that goes to a file or a pipe."""
SHORT = 8
SHORT_DIGEST = 6
SHOWN = (
    "run",
    "name",
    "dataset",
    "bias",
    "method",
    "seed",
    "status",
    "labels used",
    "accuracy",
    "balanced",
    "rare",
    "AUBC",
    "started",
)


def show(wanted: RunFilter, *, tracking: str | None, as_json: bool) -> None:
    """Print them, newest first. Raises SomeFailed, once they are printed, if others cannot be read."""
    client = open_store(tracking)
    listing = find_runs(client, wanted)
    if as_json:
        echo_json({"tracking_uri": redacted(client.tracking_uri), "runs": [_as_json(run) for run in listing.runs]})
    else:
        console(piped=WIDTH).print(run_table(listing.runs))
    refuse_damaged(listing.damaged)


def run_table(runs: Sequence[FoundRun]) -> Table:
    """A row per experiment; accuracies, in %, are the last round's."""
    table = Table(box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    for title in SHOWN:
        numeric = title in ("seed", "labels used", "accuracy", "balanced", "rare", "AUBC")
        table.add_column(title, justify="right" if numeric else "left", no_wrap=title != "name", overflow="fold")
    names = dataset_labels(runs)
    for run in runs:
        table.add_row(
            run.run_id[:SHORT],
            run.shown_name,
            names[run.dataset, run.data_digest],
            run.bias,
            short_method_name(run.method),
            str(run.seed),
            f"{run.status.lower()}{', superseded' if run.superseded else ''}",
            "-" if run.labels_used is None else f"{run.labels_used:,}",
            _percent(run.accuracy),
            _percent(run.balanced_accuracy),
            _percent(run.rare_accuracy),
            _percent(run.aubc),
            f"{_started(run):%Y-%m-%d %H:%M}",
        )
    return table


def dataset_labels(runs: Sequence[FoundRun]) -> dict[tuple[str, str], str]:
    """What to call the images of runs, by name and digest: `mine`, or `mine 1a2b3c` where several have the name."""
    digests: dict[str, set[str]] = {}
    for run in runs:
        digests.setdefault(run.dataset, set()).add(run.data_digest)
    return {
        (name, digest): f"{name} {digest[:SHORT_DIGEST] or 'unknown'}" if len(found - {""}) > 1 else name
        for name, found in digests.items()
        for digest in found
    }


def _as_json(run: FoundRun) -> dict[str, Any]:
    kept = {key: value for key, value in run._asdict().items() if key not in ("experiment_id", "started")}
    return {**kept, "started": _started(run).isoformat()}


def _started(run: FoundRun) -> datetime:
    return datetime.fromtimestamp(run.started / 1000).astimezone()


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"
