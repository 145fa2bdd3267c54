"""fkal finds the images worth labeling when the unlabeled pool is biased."""

from fkal.version import __version__

__all__ = ["__version__"]
