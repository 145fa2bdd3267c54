"""Searches settings by Optuna, as studies that several processes share."""
