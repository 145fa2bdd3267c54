"""What split files tell of the data that experiments shared."""

import json
from collections.abc import Iterable
from pathlib import Path

from fkal.data.digest import bytes_digest
from fkal.data.splits import read_split
from fkal.report.experiments import SplitFacts


def splits_in(paths: Iterable[Path]) -> dict[str, SplitFacts]:
    """By the digest that an experiment keeps of its split; files that are none are passed over."""
    return {bytes_digest([path.read_bytes()]): _facts(path) for path in paths if _is_split(path)}


def _facts(path: Path) -> SplitFacts:
    split = read_split(path)
    return SplitFacts(split.class_counts, split.cut, split.data_digest)


def _is_split(path: Path) -> bool:
    try:
        return "class_counts" in json.loads(path.read_bytes())
    except ValueError:
        return False
