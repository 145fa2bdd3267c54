"""What `fkal init`, `fkal val` and `fkal pool` print."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from fkal.cli.progress import duration
from fkal.cli.terminal import console, echo, echo_json
from fkal.data.decoding import Change, described_changes
from fkal.data.errors import printable
from fkal.escaping import one_line
from fkal.labeling.batch import Batch
from fkal.labeling.estimate import Estimate
from fkal.labeling.init import FEW_VALIDATION_IMAGES, InitSummary
from fkal.labeling.project import Project
from fkal.labeling.scan import PartSummary
from fkal.labeling.validation import Start

CLASSES_SHOWN = 20
MEGABYTE = 10**6


def print_init(summary: InitSummary, *, as_json: bool) -> None:
    """What was found, what is missing, and what to do next."""
    if as_json:
        echo_json(_init_facts(summary))
        return
    for part in summary.parts:
        _echo_part(part)
    if summary.labeled:
        echo(f"{summary.labeled:,} labels came with --labeled")
    if summary.groups:
        shared = f"; {summary.shared_groups:,} of them are validated or tested on and leave the pool"
        echo(f"groups: {summary.groups:,} in the pool{shared if summary.shared_groups else ''}")
    if summary.seeming_groups is not None:
        count, example, pattern = summary.seeming_groups
        echo(
            f"names of the pool have {count:,} beginnings, such as {printable(example)}. Where one is a track, a video "
            f"or a patient, set data.groups: '{pattern}' in {summary.folder / 'params.yaml'}. Else images like "
            "validated ones are asked for, and accuracy looks better than it is"
        )
    _echo_classes(summary)
    echo(f"suggested budget: {summary.budget} images per round ({summary.budget_rule})")
    if summary.feature_check is not None:
        echo(summary.feature_check)
    echo(_estimated(summary.estimate))
    echo(f"{'kept' if summary.was_there else 'made'} {summary.folder / 'params.yaml'}")
    has_validation = any(part.part == "validation" for part in summary.parts)
    begin = "fkal next" if summary.labeled else "fkal select"  # what is labeled already is trained on first
    echo(f"next: cd {summary.folder} && {begin if has_validation else 'fkal val start -n 200'}")


def print_part(project: Project, summary: PartSummary, *, as_json: bool) -> None:
    """What a place brought."""
    if as_json:
        echo_json({"project": str(project.folder), **_part_facts(summary)})
        return
    _echo_part(summary)
    echo(f"{summary.added:,} images are new; earlier rounds stay valid")


def print_start(start: Start, adopted: int, *, as_json: bool) -> None:
    """The batch to label."""
    batch = start.batch
    if as_json:
        echo_json(
            {
                "batch": batch.name,
                "folder": str(batch.folder),
                "images": len(batch.images),
                "was_there": start.was_there,
            }
        )
        return
    if adopted:
        echo(f"{adopted:,} labeled images are validation images now")
    state = "is open" if start.was_there else "written"
    echo(f"batch {batch.name} {state}: {len(batch.images):,} random images in {batch.folder / 'to_label.csv'}")
    echo("next: fkal label, or fill the column label and run fkal label import FILE")


def print_withdrawn(batch: Batch, *, as_json: bool) -> None:
    """The batch that asks for nothing any more."""
    if as_json:
        echo_json({"withdrawn": batch.name})
        return
    echo(f"batch {batch.name} is withdrawn; its labels stay")


def _echo_part(part: PartSummary) -> None:
    average = "" if not part.formats else f", {part.bytes / MEGABYTE:,.1f} MB"
    formats = ", ".join(f"{n:,} {name}" for name, n in part.formats.most_common())
    echo(f"{part.part}: {part.listed:,} images of {part.found:,} files ({formats or 'not read yet'}{average})")
    if part.unread:
        echo(f"  {part.unread:,} behind URLs: checked when they are first read")
    if part.duplicates:
        echo(f"  {part.duplicates:,} exact copies collapsed")
    if part.dropped:
        echo(f"  {part.dropped:,} dropped, since they are in another part as well")
    if part.set_aside:
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in part.set_aside.most_common())
        echo(f"  {part.set_aside.total():,} set aside in quarantine.csv: {kinds}")
    left_out = ", ".join(f"{n:,} {kind}" for kind, n in part.left_out.items() if n)
    if left_out:
        echo(f"  left out: {left_out}")
    changed = described_changes(Change(value) for value in part.changes.elements())
    if changed:
        echo(f"  {', '.join(changed)}")


def _echo_classes(summary: InitSummary) -> None:
    """Validation images per class; of many classes the fewest and the most."""
    part = next((part for part in summary.parts if part.part == "validation"), None)
    if part is None:
        echo("no validation set: label a random sample of the pool first (fkal val start -n 200)")
        return
    counts = part.per_class
    if len(counts) <= CLASSES_SHOWN:
        table = Table("class", "validation images", box=box.SIMPLE)
        for name in summary.classes:
            table.add_row(one_line(name), str(counts[name]))
        console().print(table)
    else:
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        echo(f"classes: {len(summary.classes)}, each with {each} validation images")
    if summary.too_few:
        few = ", ".join(f"{one_line(name)} ({n})" for name, n in list(summary.too_few.items())[:CLASSES_SHOWN])
        more = f" and {len(summary.too_few) - CLASSES_SHOWN} more" if len(summary.too_few) > CLASSES_SHOWN else ""
        echo(f"too few validation images (below {FEW_VALIDATION_IMAGES}): {few}{more}; add some: fkal val add PATH")


def _estimated(estimate: Estimate | None) -> str:
    if estimate is None:
        return "time and disk: unknown until images and weights are on this machine"
    return (
        f"one pass over the pool: about {duration(estimate.read_seconds)} to read it and "
        f"{duration(estimate.model_seconds)} for the model; descriptors take {estimate.disk_bytes / MEGABYTE:,.0f} MB"
    )


def _init_facts(summary: InitSummary) -> Mapping[str, Any]:
    estimate = summary.estimate
    return {
        "project": str(summary.folder),
        "was_there": summary.was_there,
        "parts": [_part_facts(part) for part in summary.parts],
        "classes": list(summary.classes),
        "too_few": dict(summary.too_few),
        "groups": summary.groups,
        "shared_groups": summary.shared_groups,
        "seeming_groups": None if summary.seeming_groups is None else summary.seeming_groups._asdict(),
        "labeled": summary.labeled,
        "budget": summary.budget,
        "feature_check": summary.feature_check,
        "estimate": None
        if estimate is None
        else {
            "read_seconds": round(estimate.read_seconds, 3),
            "model_seconds": round(estimate.model_seconds, 3),
            "disk_bytes": estimate.disk_bytes,
        },
    }


def _part_facts(part: PartSummary) -> Mapping[str, Any]:
    return {
        "part": part.part,
        "found": part.found,
        "listed": part.listed,
        "added": part.added,
        "unread": part.unread,
        "duplicates": part.duplicates,
        "dropped": part.dropped,
        "bytes": part.bytes,
        "formats": dict(part.formats),
        "set_aside": dict(part.set_aside),
        "left_out": {kind: n for kind, n in part.left_out.items() if n},
        "per_class": dict(part.per_class),
    }
