"""Experiments as a tracking store has them, for the report: no scratch folder is needed."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from safetensors.torch import load_file

from fkal.config.schema import ConfigError
from fkal.engine.rounds import Round, Selection
from fkal.report.experiments import Finished, Material, Weights, material_of
from fkal.report.load.tracked_manifest import about_of
from fkal.report.splits import splits_in
from fkal.results.outcome import Outcome
from fkal.tracking.query import FoundRun, all_runs, iterations, named, opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COLUMNS = {"ranks": "rank", "scores": "score", "matches": "matched_validation_index", "pseudo_labels": "pseudo_label"}


def from_mlflow(tracking: str | None) -> Material:
    """The finished experiments of the store, by the files that each iteration has there."""
    client, runs = _finished_runs(tracking)
    finished, left_out = [], []
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            try:
                finished.append(_finished(client, run, Path(folder)))
            except ConfigError as error:
                left_out.append(f"{run.name} ({run.run_id[:8]}): {error}; left out")
    if not finished:
        raise ConfigError(f"{client.tracking_uri}: no experiment can be read\n" + "\n".join(left_out))
    return material_of(finished, ("--tracking-uri", client.tracking_uri), left_out)


def one_from_mlflow(text: str, tracking: str) -> Finished:
    """The finished experiment of a name, or of the beginning of a run's id. Raises ConfigError for none or several."""
    client, runs = _finished_runs(tracking)
    (run,) = named(runs, [text], superseded=False)
    with tempfile.TemporaryDirectory() as folder:
        return _finished(client, run, Path(folder))


def _finished_runs(tracking: str | None) -> tuple["MlflowClient", list[FoundRun]]:
    client = opened(tracking)
    runs = [run for run in all_runs(client) if run.status == "FINISHED" and not run.superseded]
    if not runs:
        raise ConfigError(f"{client.tracking_uri}: no experiment is finished; `fkal runs` lists them")
    return client, runs


def _finished(client: "MlflowClient", run: FoundRun, folder: Path) -> Finished:
    about = about_of(client, run)
    children = sorted(iterations(client, run), key=lambda child: int(child.data.params["b"]))
    if not children:
        raise ConfigError("has no iterations in the store")
    rounds = tuple(_round(client, child, folder) for child in children)
    outcome = Outcome(about.config, run.fingerprint, about.split_digest, rounds, run.run_id, client.tracking_uri)
    names = [each.path for each in client.list_artifacts(run.run_id) if each.path.endswith(".json")]
    here = _folder(folder, run.run_id)
    paths = [Path(client.download_artifacts(run.run_id, name, str(here))) for name in names]
    last = children[-1].info.run_id
    return Finished(outcome, _weights(client, last), splits_in(paths).get(about.split_digest), about.made_with)


def _round(client: "MlflowClient", child: "Run", folder: Path) -> Round:
    here = _folder(folder, child.info.run_id)
    files = [client.download_artifacts(child.info.run_id, n, str(here)) for n in ("summary.json", "selected.parquet")]
    told: dict[str, Any] = json.loads(Path(files[0]).read_bytes())
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


def _folder(folder: Path, run_id: str) -> Path:
    here = folder / run_id
    here.mkdir()
    return here
