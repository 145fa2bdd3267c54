"""Experiments as a tracking store has them, for the report: no scratch folder is needed."""

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from safetensors.torch import load_file

from fkal.config.schema import ConfigError
from fkal.engine.rounds import Round, Selection
from fkal.errors import first_line
from fkal.identifiers import JSON_ARTIFACT
from fkal.redaction import redacted
from fkal.report.experiments import Finished, Material, Weights, material_of
from fkal.report.load.tracked_manifest import about_of
from fkal.report.splits import data_digest_of, splits_in
from fkal.results.outcome import Outcome
from fkal.results.round_facts import check_facts
from fkal.tracking.patience import StoreUnavailable
from fkal.tracking.query import FoundRun, Listing, all_runs, iterations, named, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TOLD = (
    "b",
    "labels_used",
    "metrics",
    "train_loss",
    "epoch",
    "labeled_counts",
    "forward_images",
    "backward_images",
    "seconds",
)
"""Of a round's facts, those that its summary has."""
COLUMNS = {"ranks": "rank", "scores": "score", "matches": "matched_validation_index", "pseudo_labels": "pseudo_label"}


def from_mlflow(tracking: str | None) -> Material:
    """The finished experiments of an MLflow store, read from the files that each round has there.

    Args:
        tracking: Address of the store; `MLFLOW_TRACKING_URI` or `./mlflow.db` unless given.

    Returns:
        The experiments, and notes on what could not be read.

    Raises:
        ConfigError: No experiment of the store can be read.
    """
    client, listing = _finished_runs(tracking)
    finished, damaged = [], listing.damaged
    with tempfile.TemporaryDirectory() as folder:
        for run in listing.runs:
            try:
                finished.append(_finished(client, run, Path(folder)))
            except ConfigError as error:
                damaged.append(f"{run.name} ({run.run_id[:8]}): {redacted(str(error))}; left out")
    if not finished:
        raise ConfigError(f"{redacted(client.tracking_uri)}: no experiment can be read\n" + "\n".join(damaged))
    return material_of(finished, ("--tracking-uri", redacted(client.tracking_uri)), damaged=damaged)


def some_from_mlflow(texts: Sequence[str], tracking: str) -> tuple[list[Finished], list[str]]:
    """The finished experiments of names, or of beginnings of runs' ids, and why other runs cannot be read.

    Raises ConfigError for a text that stands for none or several.
    """
    client, listing = _finished_runs(tracking)
    with tempfile.TemporaryDirectory() as folder:
        runs = [_named(listing, text) for text in texts]
        read = {run.run_id: _finished_of_name(client, run, Path(folder)) for run in dict.fromkeys(runs)}
    return [read[run.run_id] for run in runs], listing.damaged


def _named(listing: Listing, text: str) -> FoundRun:
    """Raises ConfigError for a text that stands for none or several; one of the damaged runs may be meant."""
    try:
        return named(listing.runs, [text], superseded=False)[0]
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *listing.damaged])) from None


def _finished_of_name(client: "MlflowClient", run: FoundRun, folder: Path) -> Finished:
    try:
        return _finished(client, run, folder)
    except ConfigError as error:
        way_out = f"run it again, and delete this one: mlflow runs delete --run-id {run.run_id}"
        raise ConfigError(f"{run.name} ({run.run_id[:8]}): {error}; {way_out}") from error


def _finished_runs(tracking: str | None) -> tuple["MlflowClient", Listing]:
    client = open_store(tracking)
    listing = all_runs(client)
    runs = [run for run in listing.runs if run.status == "FINISHED" and not run.superseded]
    if not runs:
        lines = [
            f"{redacted(client.tracking_uri)}: no experiment is finished; `fkal runs` lists them",
            *listing.damaged,
        ]
        raise ConfigError("\n".join(lines))
    return client, Listing(runs, listing.left_out)


def _finished(client: "MlflowClient", run: FoundRun, folder: Path) -> Finished:
    """Raises ConfigError for what is not as it was tracked."""
    from mlflow.exceptions import MlflowException

    try:
        return _read(client, run, folder)
    except (ConfigError, StoreUnavailable):
        raise
    except (AttributeError, LookupError, OSError, TypeError, ValueError, MlflowException) as error:
        raise ConfigError(f"is not in the store as it was tracked ({first_line(error)})") from error


def _read(client: "MlflowClient", run: FoundRun, folder: Path) -> Finished:
    about = about_of(client, run)
    tracked = iterations(client, run)
    if tracked.unreadable:
        raise ConfigError(f"has a round, run {tracked.unreadable[0]}, that MLflow cannot read")
    children = sorted(tracked.runs, key=lambda child: int(child.data.params["b"]))
    found = [int(child.data.params["b"]) for child in children]
    if not found:
        raise ConfigError("has no rounds in the store")
    if found != list(range(1, len(found) + 1)):
        raise ConfigError(f"has rounds {found} in the store, and not each of them once")
    rounds = tuple(_round(client, child, folder) for child in children)
    listed = [each.path for each in client.list_artifacts(run.run_id)]
    names = [name for name in listed if re.fullmatch(JSON_ARTIFACT, name)]  # the split's file is one of them
    here = tempfile.mkdtemp(dir=folder)
    paths = [Path(client.download_artifacts(run.run_id, name, here)) for name in names]
    splits, damaged = splits_in(paths)
    if damaged:
        raise ConfigError(damaged[0])
    last = children[-1].info.run_id
    split = splits.get(about.split_digest)
    outcome = Outcome(
        about.config,
        run.fingerprint,
        about.split_digest,
        rounds,
        run.run_id,
        client.tracking_uri,
        data_digest=data_digest_of(about.data_digest, split),
    )
    return Finished(outcome, _weights(client, last), split, about.made_with, about.classes)


def _round(client: "MlflowClient", child: "Run", folder: Path) -> Round:
    here = tempfile.mkdtemp(dir=folder)
    files = [client.download_artifacts(child.info.run_id, n, here) for n in ("summary.json", "selected.parquet")]
    told: dict[str, Any] = json.loads(Path(files[0]).read_bytes())
    check_facts(told, TOLD)
    return Round(
        b=told["b"],
        labels_used=told["labels_used"],
        selection=_selection(pd.read_parquet(files[1])),
        metrics=told["metrics"],
        train_loss=tuple(told["train_loss"]),
        epoch=told["epoch"],
        confusion=torch.tensor(told["confusion"]),
        labeled_counts=tuple(told["labeled_counts"]),
        forward_images=told["forward_images"],
        backward_images=told["backward_images"],
        seconds=told["seconds"],
        peak_memory_mb=child.data.metrics.get("gpu/max_mem_allocated_mb"),
        weights={},
    )


def _selection(picks: pd.DataFrame) -> Selection:
    known = {name: column for name, column in COLUMNS.items() if picks[column].notna().all()}
    return Selection(
        indices=torch.tensor(picks["index"].tolist()),
        labels=torch.tensor(picks["label"].tolist()),
        **{name: torch.tensor(picks[column].tolist()) for name, column in known.items()},
    )


def _weights(client: "MlflowClient", run_id: str) -> Callable[[], Weights]:
    def last_weights() -> Weights:
        with tempfile.TemporaryDirectory() as folder:
            return load_file(client.download_artifacts(run_id, "weights.safetensors", folder))

    return last_weights
