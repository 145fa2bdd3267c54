"""What `fkal run` prints at the end: the accuracies and where to look."""

from fkal.cli.tables import accuracy_table
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.experiment.names import bias_name, dataset_name
from fkal.redaction import redacted
from fkal.results.outcome import Outcome, by_cell, distinctions
from fkal.runner.run import Finished
from fkal.tracking.ui import ui_command, ui_hint


def print_finished(finished: Finished, *, as_json: bool) -> None:
    """Raises SomeFailed, once the others are shown, where experiments failed."""
    if finished.outcomes:
        _print_outcomes(finished, as_json=as_json)
    finished.refuse_failures()


def _print_outcomes(finished: Finished, *, as_json: bool) -> None:
    uri = finished.outcomes[0].tracking_uri
    figures = [str(path) for path in finished.figures]
    if as_json:
        experiments = [_as_json(outcome) for outcome in finished.outcomes]
        echo_json({"experiments": experiments, "figures": figures, "ui": ui_command(uri)})
        return
    screen = console(piped=WIDTH)
    groups = by_cell(finished.outcomes)
    differs = distinctions(list(groups))
    for group, members in groups.items():
        screen.print(accuracy_table(group, members, differs[group]))
    for figure in figures:
        echo(f"curve: {figure} (numbers beside it as .csv)")
    echo(f"compare the methods in MLflow: {ui_command(uri)}{ui_hint(uri)}")


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.name,
        "dataset": dataset_name(outcome.config.data),
        "bias": bias_name(outcome.config.bias),
        "method": outcome.method,
        "seed": outcome.config.seed,
        "protocol": outcome.config.protocol,
        "fingerprint": outcome.fingerprint,
        "split_digest": outcome.split_digest,
        "data_digest": outcome.data_digest,
        "run_id": outcome.run_id,
        "tracking_uri": redacted(outcome.tracking_uri),
        "rounds": [
            {"b": r.b, "labels_used": r.labels_used, "selected": r.selection.indices.tolist(), **r.metrics}
            for r in outcome.rounds
        ],
    }
