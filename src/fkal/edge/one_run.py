"""`fkal show RUN` and `fkal compare RUN RUN`: experiments in the terminal, from the scratch folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from fkal.config import ConfigError
from fkal.edge.facts import selected_counts
from fkal.edge.reporting.finished import Finished
from fkal.edge.reporting.reading_runs import from_runs
from fkal.edge.running import WIDTH
from fkal.edge.text_plot import text_plot
from fkal.engine.rounds import FEW_CLASSES
from fkal.spelling import did_you_mean

SCORES = {"accuracy": "accuracy", "minority_accuracy": "rare classes", "worst_class_accuracy": "worst class"}


def show(run: str, *, out: Path, tracking: str | None) -> None:
    """Print one experiment: its curve, a row an iteration, the classes that it picked."""
    (one,) = named([run], from_runs(out, tracking).finished)
    _print(Text(one.outcome.name, style="bold"), plot([one]), rounds_table(one), counts_table(one))


def compare(first: str, second: str, *, out: Path, tracking: str | None) -> None:
    """Print two side by side: what differs in their settings, both curves, which images both picked."""
    a, b = named([first, second], from_runs(out, tracking).finished)
    _print(settings_table(a, b), plot([a, b]), together_table(a, b))


def named(texts: Sequence[str], known: Sequence[Finished]) -> list[Finished]:
    """The experiment of each name or beginning of a fingerprint. Raises ConfigError for what is none or several."""
    return [_named(text, known) for text in texts]


def plot(experiments: Sequence[Finished]) -> Text:
    """Accuracy in % against labels used."""
    curves = {
        each.outcome.name: [(r.labels_used, 100 * r.metrics[f"{r.measured}/accuracy"]) for r in each.outcome.rounds]
        for each in experiments
    }
    return Text(text_plot(curves, x="labels used", y="accuracy, %"))


def rounds_table(one: Finished) -> Table:
    """Scores in %; passes and seconds are those of the whole iteration."""
    table = Table(box=box.SIMPLE)
    measured = one.outcome.rounds[0].measured
    present = {k: v for k, v in SCORES.items() if f"{measured}/{k}" in one.outcome.rounds[0].metrics}
    for title in ("b", "labels", *present.values(), "forward", "backward", "seconds"):
        table.add_column(title, justify="right")
    for r in one.outcome.rounds:
        scores = [f"{100 * r.metrics[f'{measured}/{k}']:.2f}" for k in present]
        passes = [f"{sum(images.values()):,}" for images in (r.forward_images, r.backward_images)]
        table.add_row(str(r.b), f"{r.labels_used:,}", *scores, *passes, f"{sum(r.seconds.values()):.1f}")
    return table


def counts_table(one: Finished) -> Table:
    """Picks of each iteration by class; of many classes only how many have any."""
    last = one.outcome.rounds[-1].labeled_counts
    table = Table(title="picked by class", box=box.SIMPLE)
    if len(last) > FEW_CLASSES:
        for title in ("b", "classes", "most of a class"):
            table.add_column(title, justify="right")
        for r in one.outcome.rounds:
            counts = selected_counts(r)
            table.add_row(str(r.b), str(sum(n > 0 for n in counts)), str(max(counts)))
        return table
    for title in ("b", *(str(k) for k in range(len(last)))):
        table.add_column(title, justify="right")
    for r in one.outcome.rounds:
        table.add_row(str(r.b), *map(str, selected_counts(r)))
    table.add_section()
    table.add_row("all", *map(str, last))
    return table


def settings_table(a: Finished, b: Finished) -> Table:
    """The settings in which they differ."""
    table = Table(title="settings that differ", box=box.SIMPLE)
    for title in ("setting", a.outcome.name, b.outcome.name):
        table.add_column(title)
    ours, theirs = a.outcome.config.flat, b.outcome.config.flat
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            table.add_row(key, str(ours.get(key)), str(theirs.get(key)))
    return table


def together_table(a: Finished, b: Finished) -> Table:
    """A row an iteration of both: accuracies in %, and how many images both had labeled by then."""
    table = Table(title="side by side", box=box.SIMPLE)
    for title in ("b", a.outcome.name, b.outcome.name, "difference", "labeled by both", "of"):
        table.add_column(title, justify="right")
    ours, theirs = set[int](), set[int]()
    for x, y in zip(a.outcome.rounds, b.outcome.rounds, strict=False):
        ours.update(x.selection.indices.tolist())
        theirs.update(y.selection.indices.tolist())
        p, q = (100 * r.metrics[f"{r.measured}/accuracy"] for r in (x, y))
        both, most = len(ours & theirs), min(len(ours), len(theirs))
        table.add_row(str(x.b), f"{p:.2f}", f"{q:.2f}", f"{p - q:+.2f}", str(both), str(most))
    return table


def _named(text: str, known: Sequence[Finished]) -> Finished:
    same = [each for each in known if each.outcome.name == text]
    matches = same or [each for each in known if text and each.outcome.fingerprint.startswith(text)]
    if not matches:
        names = sorted({each.outcome.name for each in known})
        raise ConfigError(
            f"{text!r} is no finished experiment; {did_you_mean(text, names)}give a name such as {names[0]}, "
            "or the beginning of a fingerprint"
        )
    if len(matches) > 1:
        prints = ", ".join(each.outcome.fingerprint[:12] for each in matches[:5])
        raise ConfigError(f"{text!r} may be any of {len(matches)} experiments; give more of a fingerprint: {prints}")
    return matches[0]


def _print(*parts: Text | Table) -> None:
    Console(width=None if os.isatty(1) else WIDTH).print(Group(*parts))
