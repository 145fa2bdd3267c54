"""Files of the same content in two parts of a dataset, which then are no longer apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, Protocol, runtime_checkable

NAMED = 3  # pairs in one message


@runtime_checkable
class OfFiles(Protocol):
    """An image set that knows the content of each of its files."""

    @property
    def file_hashes(self) -> Sequence[bytes]:
        """SHA-256 of each file's bytes, by index; empty where the images come from no files of their own."""
        ...


class Part(NamedTuple):
    """Names and hashes of the files of one part, by index."""

    names: Sequence[str]
    hashes: Sequence[bytes]

    def of(self, indices: Sequence[int]) -> Part:
        """Some of its files."""
        return Part([self.names[i] for i in indices], [self.hashes[i] for i in indices])


def warnings_on_twins(parts: Mapping[str, Part]) -> tuple[str, ...]:
    """A line for each two parts that have files of the same bytes: how many, and the first of them."""
    lines = []
    for one, other in combinations(parts, 2):
        names: dict[bytes, str] = {}
        for name, content in zip(*parts[one], strict=True):
            names.setdefault(content, name)
        twins = [
            f"{name} is {names[content]}"
            for name, content in zip(parts[other].names, parts[other].hashes, strict=True)
            if content in names
        ]
        if twins:
            more = f" and {len(twins) - NAMED:,} more" if len(twins) > NAMED else ""
            lines.append(
                f"warning: {len(twins):,} of {len(parts[other].hashes):,} {other} images are {one} images too "
                f"({', '.join(twins[:NAMED])}{more}); keep each image in one part"
            )
    return tuple(lines)
