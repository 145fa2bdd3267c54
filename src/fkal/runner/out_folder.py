"""The folder of `--out`, looked at before any work."""

import tempfile
from pathlib import Path

from fkal.errors import ConfigError


def refuse_unusable(out: Path) -> None:
    """Raises ConfigError unless files can be written under --out."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(
            f"--out {out}: nothing can be written there ({error.strerror}); name another folder"
        ) from error


def refuse_no_folder(out: Path) -> None:
    """Raises ConfigError where --out can be no folder; makes none."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ConfigError(f"--out {out}: {there} is no folder; name another folder")
