"""What split files say about the data that experiments shared."""

from collections.abc import Iterable
from pathlib import Path

from fkal.data.digest import bytes_digest
from fkal.data.errors import CorruptSplit
from fkal.data.splits import read_split
from fkal.report.experiments import SplitFacts

LIST_OF_FILES = "about.json"
"""What the pipeline publishes beside its splits."""


def splits_in(paths: Iterable[Path]) -> tuple[dict[str, SplitFacts], list[str]]:
    """By the digest that an experiment keeps of its split, and why each other file is left out."""
    found, damaged = {}, []
    for path in paths:
        if path.name == LIST_OF_FILES:
            continue
        try:
            split = read_split(path)
            found[bytes_digest([path.read_bytes()])] = SplitFacts(split.class_counts, split.cut, split.data_digest)
        except (CorruptSplit, OSError) as error:
            damaged.append(f"{error}; left out")
    return found, damaged


def data_digest_of(kept: str, split: SplitFacts | None) -> str:
    """Of an experiment's images: as it was kept, else as its split has it; empty where neither is known."""
    return kept or (split.data_digest if split else "")
