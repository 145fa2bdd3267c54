"""What `fkal split`, `fkal pretrain` and `fkal descriptors` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from fkal.cli.terminal import console, echo, echo_json


def print_splits(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The file, the digest and the images per class of each split."""
    if as_json:
        echo_json({"splits": list(answers)})
        return
    for answer in answers:
        echo(
            f"{answer['dataset']} {answer['bias']} seed {answer['seed']}: {answer['path']} (digest {answer['digest']})"
        )
        console().print(_counts_table(answer["class_counts"]))


def print_pretrained(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The files of weights, and whether they were there."""
    if as_json:
        echo_json({"pretrained": list(answers)})
        return
    for answer in answers:
        state = "was there" if answer["was_there"] else "made"
        echo(f"{answer['dataset']} seed {answer['seed']}: {', '.join(answer['paths'])} ({state})")


def print_descriptors(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The folders of descriptors, their size, and whether they were there."""
    if as_json:
        echo_json({"descriptors": list(answers)})
        return
    for answer in answers:
        echo(_told(answer))


def _told(answer: Mapping[str, Any]) -> str:
    if not answer["paths"]:
        return f"{answer['experiment']}: its first iteration reads no descriptors"
    state = "were there" if answer["were_there"] else "made"
    return f"{answer['experiment']}: {', '.join(answer['paths'])} ({answer['megabytes']} MB, {state})"


def _counts_table(counts: dict[str, list[int]]) -> Table:
    classes = len(next(iter(counts.values())))
    if classes > 20:
        table = Table("part", "images", "fewest a class", "most a class", box=box.SIMPLE)
        for part, values in counts.items():
            table.add_row(part, str(sum(values)), str(min(values)), str(max(values)))
        return table
    table = Table("part", "images", *(f"of {k}" for k in range(classes)), box=box.SIMPLE)
    for part, values in counts.items():
        table.add_row(part, str(sum(values)), *map(str, values))
    return table
