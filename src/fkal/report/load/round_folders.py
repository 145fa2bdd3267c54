"""A folder of rounds, as the scratch folder and the pipeline's outputs have it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fkal.config.schema import ConfigError
from fkal.data.regular_files import regular_bytes
from fkal.engine.rounds import Round
from fkal.report.experiments import Weights
from fkal.results.round_facts import UnusableRound, join_timings, round_files
from fkal.results.round_io import load_round


def rounds_in(folder: Path, *, timed_files: bool) -> tuple[Round, ...]:
    """Its rounds in their order, without weights. Raises ConfigError for one that is not whole."""
    return tuple(replace(_read(path, timed_files=timed_files), weights={}) for path in round_files(folder))


def weights_in(folder: Path) -> Callable[[], Weights]:
    """Reads the weights after its last round."""

    def last_weights() -> Weights:
        return _read(round_files(folder)[-1], timed_files=False).weights

    return last_weights


def _read(path: Path, *, timed_files: bool) -> Round:
    tensors = path.with_suffix(".safetensors")
    try:
        facts = regular_bytes(path)
        return load_round(regular_bytes(tensors), facts if timed_files else join_timings(facts, {}))
    except (OSError, UnusableRound) as error:
        raise ConfigError(f"{path}: {error}") from None
