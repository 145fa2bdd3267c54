"""What `fkal split`, `fkal pretrain` and `fkal embed` print."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from fkal.cli.terminal import console, echo, echo_json
from fkal.escaping import one_line


def print_splits(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The file, the digest and the images per class of each split."""
    if as_json:
        echo_json({"splits": list(answers)})
        return
    for answer in answers:
        echo(
            f"{answer['dataset']} {answer['bias']} seed {answer['seed']}: {answer['path']} (digest {answer['digest']})"
        )
        console().print(_counts_table(answer["class_counts"], answer["classes"]))


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
        return f"{answer['experiment']}: its first round reads no descriptors"
    state = "were there" if answer["were_there"] else "made"
    return f"{answer['experiment']}: {', '.join(answer['paths'])} ({answer['megabytes']} MB, {state})"


def _counts_table(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Table:
    if len(classes) > 20:
        table = Table("part", "images", "fewest per class", "most per class", box=box.SIMPLE)
        for part, values in counts.items():
            table.add_row(part, str(sum(values)), str(min(values)), str(max(values)))
        return table
    table = Table("class", *counts, box=box.SIMPLE)
    for k, name in enumerate(classes):
        table.add_row(one_line(name), *(str(values[k]) for values in counts.values()))
    table.add_section()
    table.add_row("all", *(str(sum(values)) for values in counts.values()))
    return table
