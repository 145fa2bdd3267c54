"""Curves as a table: accuracy by iteration, without the experiments behind it."""

from pathlib import Path

import pandas as pd

from fkal.config.schema import ConfigError
from fkal.report.experiments import Material
from fkal.report.panels import ONCE, with_groups
from fkal.results.curves import ACCURACY

NEEDED = ("dataset", "bias", "protocol", "method", "seed", "b", "labels_used")
MEASURED = (ACCURACY, "holdout/accuracy")


def from_curves(path: Path) -> Material:
    """A CSV as `fkal run` writes it beside its curves: a row a seed and iteration. Raises ConfigError for any other."""
    try:
        frame = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigError(f"{path}: cannot be read as CSV ({error}); name a file of curves") from None
    missing = [name for name in NEEDED if name not in frame]
    if not any(name in frame for name in MEASURED):
        missing.append(" or ".join(MEASURED))
    if missing or frame.empty:
        raise ConfigError(f"{path}: has {len(frame)} rows and lacks {missing}; name a CSV that `fkal run` wrote")
    twice = with_groups(frame).duplicated([*ONCE, "budget", "most"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ConfigError(
            f"{path}: iteration {row['b']} of {row['method']}, seed {row['seed']}, stands there more than once "
            f"({twice.sum()} rows too many); remove them"
        )
    return Material(frame, (), ("--curves", str(path)), (f"{path}: curves alone, so what needs more is left out",))
