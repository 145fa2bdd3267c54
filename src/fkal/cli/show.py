"""`fkal show RUN` and `fkal compare RUN RUN`: experiments in the terminal, from the scratch folder or the store."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fkal.cli.terminal import WIDTH, console
from fkal.cli.text_plot import text_plot
from fkal.config.schema import ConfigError
from fkal.data.registry import DATASETS
from fkal.data.regular_files import read_regular
from fkal.engine.settings import FEW_CLASSES
from fkal.errors import did_you_mean, refuse_damaged, shortened
from fkal.escaping import one_line
from fkal.results.class_names import numbers
from fkal.results.kept_runs import kept_runs
from fkal.results.manifest import Manifest
from fkal.results.run_summary import RoundSummary, RunSummary, counts_by_class, summaries_in

if TYPE_CHECKING:
    from fkal.report.experiments import Finished

SCRATCH = Path("runs")
LARGEST_SPLIT = 2**28  # bytes, as those who read splits bound them
SPLIT_DIGITS = 32
SHOWN = 40
"""Images that are listed one by one."""

NO_NAMES = "this run holds no names of classes, so numbers stand for them"

SCORES = {
    "accuracy": "accuracy",
    "macro_accuracy": "balanced",
    "minority_accuracy": "rare classes",
    "worst_class_accuracy": "worst class",
}


def show(run: str, *, out: Path | None, tracking: str | None) -> None:
    """Print one experiment: its curve, a row per round, the classes that it picked."""
    (one,), damaged = found([run], out, tracking)
    notes = [] if one.known_classes else [Text(NO_NAMES)]
    _print(Text(one.shown_name, style="bold"), plot([one]), rounds_table(one), counts_table(one), *notes)
    refuse_damaged(damaged)


def compare(first: str, second: str, *, out: Path | None, tracking: str | None) -> None:
    """Print two side by side: what differs in their settings, both curves, which images both picked."""
    (a, b), damaged = found([first, second], out, tracking)
    _print(settings_table(a, b), plot([a, b]), together_table(a, b), both_picked(a, b))
    refuse_damaged(damaged)


def found(texts: Sequence[str], out: Path | None, tracking: str | None) -> tuple[list[RunSummary], list[str]]:
    """In the tracking store if that alone is named, else in the scratch folder; and what could not be read there."""
    if out is None and tracking is not None:
        from fkal.report.load.mlflow import some_from_mlflow

        several, damaged = some_from_mlflow(texts, tracking)
        return [_summary_of(one) for one in several], damaged
    folder = out or SCRATCH
    kept = kept_runs(folder, summaries_in, partial(_tracked, tracking))
    damaged = [*kept.damaged, *_damaged_splits(folder, {about.split_digest for _, about, _ in kept.finished})]
    known = [
        RunSummary(
            about.config,
            path.name,
            about.split_digest,
            about.data_digest,
            rounds,
            about.classes,
            about.made_with,
        )
        for path, about, rounds in kept.finished
    ]
    try:
        return named(texts, known), damaged
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *damaged])) from None


def _tracked(tracking: str | None, fingerprints: Collection[str]) -> tuple[Mapping[str, Manifest], Mapping[str, str]]:
    """The manifests of runs that an earlier version left, from the store; imports MLflow."""
    from fkal.report.load.tracked_manifest import tracked_abouts
    from fkal.tracking.query import open_store

    return tracked_abouts(open_store(tracking), fingerprints)


def _damaged_splits(out: Path, digests: Collection[str]) -> list[str]:
    """Why split files cannot be read. One whose digest an experiment has is sound; another is read whole."""
    paths = sorted((out / "splits").glob("*.json"))
    others = [path for path in paths if _content_digest(path) not in digests]
    if not others:
        return []
    from fkal.report.splits import splits_in

    return splits_in(others)[1]


def _content_digest(path: Path) -> str:
    """As experiments keep it of their split; empty where the file cannot be read."""
    try:
        return hashlib.sha256(read_regular(path, limit=LARGEST_SPLIT)).hexdigest()[:SPLIT_DIGITS]
    except (OSError, ValueError):
        return ""


def _summary_of(one: "Finished") -> RunSummary:
    outcome = one.outcome
    rounds = [
        RoundSummary(
            b=r.b,
            labels_used=r.labels_used,
            measured=r.measured,
            metrics=r.metrics,
            labeled_counts=r.labeled_counts,
            selected_counts=counts_by_class(r.selection.labels.tolist(), len(r.labeled_counts)),
            indices=r.selection.indices.tolist(),
            forward_images=r.forward_images,
            backward_images=r.backward_images,
            seconds=r.seconds,
        )
        for r in outcome.rounds
    ]
    return RunSummary(
        outcome.config,
        outcome.fingerprint,
        outcome.split_digest,
        outcome.data_digest,
        rounds,
        one.classes,
        one.made_with,
    )


def named(texts: Sequence[str], known: Sequence[RunSummary]) -> list[RunSummary]:
    """The experiment of each name or beginning of a fingerprint. Raises ConfigError for what is none or several."""
    return [_named(text, known) for text in texts]


def plot(experiments: Sequence[RunSummary]) -> Text:
    """Accuracy in % against labels used."""
    names = called(experiments)
    curves = {
        name: [(r.labels_used, 100 * r.metrics[f"{r.measured}/accuracy"]) for r in each.rounds]
        for name, each in zip(names, experiments, strict=True)
    }
    return Text(text_plot(curves, x="labels used", y="accuracy, %"))


def called(experiments: Sequence[RunSummary]) -> list[str]:
    """Their names, with the beginning of a fingerprint where they have one name between them."""
    names = [each.shown_name for each in experiments]
    if len(set(names)) == len(names):
        return names
    return [f"{name} {each.fingerprint[:8]}" for name, each in zip(names, experiments, strict=True)]


def rounds_table(one: RunSummary) -> Table:
    """Scores in %; passes and seconds are those of the whole round."""
    table = Table(box=box.SIMPLE)
    measured = one.rounds[0].measured
    present = {k: v for k, v in SCORES.items() if f"{measured}/{k}" in one.rounds[0].metrics}
    for title in ("b", "labels", *present.values(), "forward", "backward", "seconds"):
        table.add_column(title, justify="right")
    for r in one.rounds:
        scores = [f"{100 * r.metrics[f'{measured}/{k}']:.2f}" for k in present]
        passes = [f"{sum(images.values()):,}" for images in (r.forward_images, r.backward_images)]
        table.add_row(str(r.b), f"{r.labels_used:,}", *scores, *passes, f"{sum(r.seconds.values()):.1f}")
    return table


def counts_table(one: RunSummary) -> Table:
    """Picks of each round by class; of many classes only how many have any."""
    last = one.rounds[-1].labeled_counts
    table = Table(title="picked by class", box=box.SIMPLE)
    if len(last) > FEW_CLASSES:
        for title in ("b", "classes", "most of a class"):
            table.add_column(title, justify="right")
        for r in one.rounds:
            table.add_row(str(r.b), str(sum(n > 0 for n in r.selected_counts)), str(max(r.selected_counts)))
        return table
    table.add_column("b", justify="right")
    for name in one.known_classes or numbers(len(last)):
        table.add_column(one_line(name), justify="right", overflow="fold")
    for r in one.rounds:
        table.add_row(str(r.b), *map(str, r.selected_counts))
    table.add_section()
    table.add_row("all", *map(str, last))
    return table


def settings_table(a: RunSummary, b: RunSummary) -> Table:
    """The settings in which they differ."""
    table = Table(title="settings that differ", box=box.SIMPLE)
    for title in ("setting", *called([a, b])):
        table.add_column(title)
    ours, theirs = a.config.flat, b.config.flat
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            table.add_row(key, str(ours.get(key)), str(theirs.get(key)))
    return table


def together_table(a: RunSummary, b: RunSummary) -> Table:
    """A row for each number of labels that both have used: accuracies in %, and how many images both had labeled.

    The differences are also those of balanced accuracy and of the rare classes. Only accuracies on the same images
    have a difference, and only experiments on one split can pick the same images.
    """
    table = Table(title="side by side", box=box.SIMPLE)
    for title in ("labels", *called([a, b]), "difference", "balanced", "rare", "labeled by both"):
        table.add_column(title, justify="right")
    ours, theirs = _by_labels(a), _by_labels(b)
    for labels in sorted(ours.keys() & theirs.keys()):
        (x, mine), (y, yours) = ours[labels], theirs[labels]
        p, q = (100 * r.metrics[f"{r.measured}/accuracy"] for r in (x, y))
        names = ("accuracy", "macro_accuracy", "minority_accuracy") if _one_measure(a, b, x.measured) else ()
        differences = [_difference(x, y, name) for name in names] or ["–"] * 3
        both = f"{len(mine & yours)}" if _one_split(a, b) else "–"
        table.add_row(f"{labels:,}", f"{p:.2f}", f"{q:.2f}", *differences, both)
    return table


def _difference(x: RoundSummary, y: RoundSummary, metric: str) -> str:
    """In percentage points; nothing where the two were measured on different images, or one was not measured."""
    name = f"{x.measured}/{metric}"
    if x.measured != y.measured or name not in x.metrics or name not in y.metrics:
        return "–"
    return f"{100 * (x.metrics[name] - y.metrics[name]):+.2f}"


def both_picked(a: RunSummary, b: RunSummary) -> Text:
    """Which images both had labeled in the end: by file where they have files, else by index in the training part."""
    if not _one_split(a, b):
        return Text("they have different splits: an image of one pool is not the other's")
    common = sorted(_picked(a) & _picked(b))
    names = _file_names(a, b) if common else None
    first = [one_line(names[index]) if names else str(index) for index in common[:SHOWN]]
    shown = ", ".join(first) + (f", and {len(common) - SHOWN:,} more" if len(common) > SHOWN else "")
    return Text(f"labeled by both: {len(common):,}" + (f": {shown}" if common else ""))


def _file_names(a: RunSummary, b: RunSummary) -> Sequence[str] | None:
    """Of the training images, if they come from files and are at hand as the experiments had them.

    Reads the images, and imports torch for it.
    """
    entry = DATASETS.get(a.config.data.name)
    if entry is not None and entry.numbered:
        return None
    from fkal.data.images import NumberedNames
    from fkal.report.datasets import images_at_hand

    dataset = images_at_hand(a.config, {each.data_digest for each in (a, b) if each.data_digest})
    if isinstance(dataset, str) or isinstance(dataset.train.names, NumberedNames):
        return None
    return dataset.train.names


def _by_labels(one: RunSummary) -> dict[int, tuple[RoundSummary, set[int]]]:
    """Rounds by labels used, with all images labeled until then."""
    picked: set[int] = set()
    found = {}
    for r in one.rounds:
        picked = picked | set(r.indices)
        found[r.labels_used] = r, picked
    return found


def _picked(one: RunSummary) -> set[int]:
    return {index for r in one.rounds for index in r.indices}


def _one_split(a: RunSummary, b: RunSummary) -> bool:
    return a.split_digest == b.split_digest


def _one_measure(a: RunSummary, b: RunSummary, measured: str) -> bool:
    """Whether the two were measured on the same images: the test set of one dataset, or a part of one split."""
    if measured == "test":
        return a.config.data.name == b.config.data.name and a.data_digest == b.data_digest
    return _one_split(a, b) and a.config.holdout == b.config.holdout


def _named(text: str, known: Sequence[RunSummary]) -> RunSummary:
    same = [each for each in known if text in each.names]
    matches = same or [each for each in known if text and each.fingerprint.startswith(text)]
    if not matches:
        names = sorted({each.shown_name for each in known})
        raise ConfigError(
            f"{shortened(text)} is no finished experiment; {did_you_mean(text, names)}give a name such as {names[0]}, "
            "or the beginning of a fingerprint"
        )
    if len(matches) > 1:
        prints = ", ".join(each.fingerprint[:12] for each in matches[:5])
        raise ConfigError(
            f"{shortened(text)} may be any of {len(matches)} experiments; give more of a fingerprint: {prints}"
        )
    return matches[0]


def _print(*parts: Text | Table) -> None:
    console(piped=WIDTH).print(Group(*parts))
