"""Finished rounds of several folders brought into one, as shards of a grid leave them. Imports no torch."""

import hashlib
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from fkal.atomic_files import write_whole
from fkal.config.schema import ConfigError
from fkal.data.regular_files import read_regular
from fkal.errors import MissingRuns, ends_all, first_line
from fkal.folders import below
from fkal.identifiers import DIGEST, SPLIT_FILE, UnsafeName
from fkal.notify import Notify
from fkal.results.checkpoint import ABOUT, Checkpoint, is_of_trial
from fkal.results.manifest import read_about
from fkal.results.round_facts import UnusableRound, read_facts, same_facts

LARGEST_ROUND = 1 << 36
"""Bytes of a round's tensors that are read."""
LARGEST_FACTS = 1 << 28


class Merged(NamedTuple):
    """Experiments that came or grew, those that were there before, and why others are left out."""

    came: int
    there: int
    left_out: list[str]


def merge(sources: Sequence[Path], out: Path, say: Notify) -> Merged:
    """Bring the finished rounds and the splits of `sources` into `out`.

    Experiments are known by their fingerprint. What is in `out` already stays, and later rounds are added to it. A
    round that is not whole, or not the one that `out` has, is left out with those after it. The tracking store is not
    touched: run ids stay behind.

    Args:
        sources: Folders that `fkal run --out` named.
        out: Another such folder; made where there is none.
        say: Called while another process works on an experiment of `out`.

    Raises:
        ConfigError: A source is `out` itself.
        MissingRuns: A source has no finished rounds.
        OSError: Nothing can be written to `out`: it is forbidden, or its disk is full.
    """
    for source in sources:
        if source.resolve() == out.resolve():
            raise ConfigError(f"{source}: is --out itself; name the folders whose experiments shall come into it")
        if not any((source / "state").glob("*/round-*.json")):
            raise MissingRuns(f"{source / 'state'}: no finished rounds; name a folder that fkal run --out filled")
    came, there, left_out = 0, 0, list[str]()
    for source in sources:
        for name in _fingerprints(source):
            try:
                added, flaw = _merge_one(below(source, f"state/{name}"), out, say)
            except (ConfigError, UnsafeName) as error:
                left_out.append(f"{source / 'state' / name}: {error}")
                continue
            except OSError as error:
                if ends_all(error):
                    raise
                left_out.append(f"{source / 'state' / name}: {first_line(error)}")
                continue
            came, there = came + (added > 0), there + (added == 0 and flaw is None)
            left_out += [flaw] if flaw else []
        left_out += _merge_splits(source, out)
    return Merged(came, there, left_out)


def _fingerprints(source: Path) -> list[str]:
    """Of experiments, but not of trials of `fkal tune`."""
    found = (path for path in (source / "state").glob("*") if re.fullmatch(DIGEST, path.name))
    return sorted(path.name for path in found if not is_of_trial(path))


def _merge_one(folder: Path, out: Path, say: Notify) -> tuple[int, str | None]:
    """How many rounds came, and why later ones did not."""
    about = _about(folder)
    added = 0
    with Checkpoint(out, folder.name, say) as state:
        state.describe(about)
        for b in range(1, _rounds_in(folder) + 1):
            try:
                added += _came(state.path, b, *_whole_round(folder, b))
            except UnusableRound as error:
                return added, f"{folder}: round {b}: {error}; it and later ones are left out"
    return added, None


def _about(folder: Path) -> bytes:
    """Raises ConfigError where it cannot be read."""
    try:
        if read_about(folder) is None:
            raise ConfigError(f"has no {ABOUT}; the same `fkal run` writes it")
        return read_regular(folder / ABOUT, limit=LARGEST_FACTS)
    except OSError as error:
        raise ConfigError(first_line(error)) from error


def _rounds_in(folder: Path) -> int:
    """The rounds 1, 2, ... n that are marked as finished, without a gap."""
    return next(b for b in count(0) if not (folder / f"round-{b + 1:02d}.json").exists())


def _whole_round(folder: Path, b: int) -> tuple[bytes, bytes]:
    """Its tensors and its facts. Raises UnusableRound if they are not those that were written together."""
    try:
        facts = read_regular(folder / f"round-{b:02d}.json", limit=LARGEST_FACTS)
        tensors = read_regular(folder / f"round-{b:02d}.safetensors", limit=LARGEST_ROUND)
    except OSError as error:
        raise UnusableRound(first_line(error)) from error
    said = read_facts(facts)
    if said["b"] != b or hashlib.sha256(tensors).hexdigest() != said["sha256"]:
        raise UnusableRound("its files do not belong together")
    return tensors, facts


def _came(place: Path, b: int, tensors: bytes, facts: bytes) -> bool:
    """Whether the round is new. Raises UnusableRound where another one is there."""
    path = place / f"round-{b:02d}.json"
    if path.exists():
        if not same_facts(read_regular(path, limit=LARGEST_FACTS), facts):
            raise UnusableRound(f"is not the one of {place}: another machine or other versions made it")
        return False
    write_whole(path.with_suffix(".safetensors"), tensors)
    write_whole(path, facts)
    return True


def _merge_splits(source: Path, out: Path) -> list[str]:
    """Why some are left out."""
    flaws = []
    for path in sorted((source / "splits").glob("*.json")):
        if not re.fullmatch(SPLIT_FILE, path.name):
            continue
        try:
            content, place = read_regular(path, limit=LARGEST_FACTS), below(out, f"splits/{path.name}")
        except (OSError, UnsafeName) as error:
            flaws.append(f"{path}: {first_line(error)}; left out")
            continue
        try:
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, content)
            elif read_regular(place, limit=LARGEST_FACTS) != content:
                flaws.append(f"{path}: is not the split {place}; left out")
        except OSError as error:
            if ends_all(error):
                raise
            flaws.append(f"{path}: {first_line(error)}; left out")
    return flaws
