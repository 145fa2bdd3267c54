"""Finished experiments from where they are kept: runs/, the pipeline, MLflow, CSV files."""
