"""Where things are that commands share. Imports nothing heavy."""

from pathlib import Path

TUNED = Path("params/tuned")
"""Where a study leaves its result, and experiments look for tuned values."""
DIGESTS = "digests"
"""Below --out: what digests the files of datasets had, so that unchanged ones are not read again."""
