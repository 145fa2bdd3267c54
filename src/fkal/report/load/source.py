"""Which experiments a report is made of, by the options of its command."""

from pathlib import Path

from fkal.config.schema import ConfigError
from fkal.report.experiments import Material
from fkal.report.load.csv import from_curves
from fkal.report.load.local import from_runs
from fkal.report.load.mlflow import from_mlflow
from fkal.report.load.pipeline import from_pipeline


def material(*, root: Path, out: Path | None, curves: Path | None, tracking: str | None) -> Material:
    """Curves, a scratch folder or an MLflow store if one is named, else what the pipeline published under `root`."""
    if curves is not None and (out is not None or tracking is not None):
        raise ConfigError("--curves stands alone: give it, or --out, or --tracking-uri")
    if curves is not None:
        return from_curves(curves)
    if out is not None:
        return from_runs(out, tracking)
    return from_pipeline(root) if tracking is None else from_mlflow(tracking)
