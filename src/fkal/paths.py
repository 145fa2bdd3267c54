"""Where things are that commands share. Imports nothing heavy."""

from pathlib import Path

from fkal.errors import ConfigError, shortened

TUNED = Path("params/tuned")
"""Where a study leaves its result, and experiments look for tuned values."""
DIGESTS = "digests"
"""Below --out: what digests the files of datasets had, so that unchanged ones are not read again."""


def at_home(path: str | Path) -> Path:
    """The path, with the folder of a user in the place of `~` or `~name`.

    Raises ConfigError where no such user is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{shortened(str(path))}: no such user's home; give the whole path") from None
