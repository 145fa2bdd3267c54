"""Acquisitions: pure functions (evidence, p, generator) -> p distinct pool positions.

A method of one's own is one function and one line in `ACQUISITIONS`, or, from another package,
an entry point of the group `fkal.acquisitions` that names an `Acquisition`.
"""

from fkal.acquisition.registry import ACQUISITIONS, Acquisition, acquisition
from fkal.acquisition.settings import AcquisitionConfig

__all__ = ["ACQUISITIONS", "Acquisition", "AcquisitionConfig", "acquisition"]
