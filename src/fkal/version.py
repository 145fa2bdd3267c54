"""The version: what the package index, `fkal --version` and every fingerprint read."""

__version__ = "0.1.0"
