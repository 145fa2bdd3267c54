"""The version of the package, for `fkal --version`, the package index and manifests. No fingerprint reads it."""

__version__ = "0.1.0"
