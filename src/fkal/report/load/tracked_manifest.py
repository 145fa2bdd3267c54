"""Configurations and names of classes as the tracking store has them."""

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from fkal.config.layers import from_assignments, merged
from fkal.config.schema import Config, ConfigError
from fkal.results.class_names import checked_names
from fkal.results.manifest import Manifest
from fkal.tracking.query import FoundRun, all_runs
from fkal.tracking.tags import RECORDED

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

COMPARED = ("method", "bias")
"""Params that are made of the others, for MLflow's comparisons."""


def tracked_abouts(client: "MlflowClient", fingerprints: Collection[str]) -> tuple[dict[str, Manifest], dict[str, str]]:
    """By fingerprint, of the runs that none has superseded; and why others of these cannot be read."""
    abouts, odd = {}, {}
    for run in all_runs(client).runs:
        if run.fingerprint in fingerprints and not run.superseded:
            try:
                abouts[run.fingerprint] = about_of(client, run)
            except ConfigError as error:
                odd[run.fingerprint] = f"{run.name} ({run.run_id[:8]}): {error}; left out"
    return abouts, odd


def about_of(client: "MlflowClient", run: FoundRun) -> Manifest:
    """Raises ConfigError if its params are no configuration of this version."""
    tracked = client.get_run(run.run_id)
    digest = tracked.data.tags.get("fkal.split_digest", "")
    return Manifest(_config(tracked), digest, _made_with(tracked), run.data_digest, _classes(tracked))


def _config(run: "Run") -> Config:
    params = {key: value for key, value in run.data.params.items() if key not in COMPARED}
    return merged([from_assignments([f"{key}={value}" for key, value in params.items()])])


def _made_with(run: "Run") -> dict[str, str]:
    tags = run.data.tags
    return {name: tags[tag] for tag, name in RECORDED.items() if tag in tags}


def _classes(run: "Run") -> tuple[str, ...]:
    """The names that the profile of its first dataset counts images by, in their order; none where it has no counts."""
    for each in run.inputs.dataset_inputs if run.inputs else ():
        try:
            return checked_names(list(json.loads(each.dataset.profile or "{}")["class_counts"]))
        except (KeyError, TypeError, ValueError):
            continue
    return ()
