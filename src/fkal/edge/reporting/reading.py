"""Which experiments a report is made of, by the options of its command."""

from pathlib import Path

from fkal.config.schema import ConfigError
from fkal.edge.reporting.finished import Material
from fkal.edge.reporting.reading_curves import from_curves
from fkal.edge.reporting.reading_mlflow import from_mlflow
from fkal.edge.reporting.reading_pipeline import from_pipeline
from fkal.edge.reporting.reading_runs import from_runs


def material(*, root: Path, out: Path | None, curves: Path | None, tracking: str | None) -> Material:
    """Curves, a scratch folder or an MLflow store if one is named, else what the pipeline published under `root`."""
    if curves is not None and (out is not None or tracking is not None):
        raise ConfigError("--curves stands alone: give it, or --out, or --tracking-uri")
    if curves is not None:
        return from_curves(curves)
    if out is not None:
        return from_runs(out, tracking)
    return from_pipeline(root) if tracking is None else from_mlflow(tracking)
