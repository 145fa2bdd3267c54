"""`fkal show RUN` and `fkal compare RUN RUN`: experiments in the terminal, from the scratch folder or the store."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fkal.cli.terminal import WIDTH, console
from fkal.cli.text_plot import text_plot
from fkal.config.schema import ConfigError
from fkal.engine.rounds import FEW_CLASSES, Round
from fkal.errors import did_you_mean, refuse_damaged, shortened
from fkal.report.experiments import Finished
from fkal.report.load.local import finished_in
from fkal.report.load.mlflow import some_from_mlflow
from fkal.tracking.metrics import selected_counts

SCRATCH = Path("runs")
SHOWN = 40
"""Images that are listed by their number."""

SCORES = {"accuracy": "accuracy", "minority_accuracy": "rare classes", "worst_class_accuracy": "worst class"}


def show(run: str, *, out: Path | None, tracking: str | None) -> None:
    """Print one experiment: its curve, a row an iteration, the classes that it picked."""
    (one,), damaged = found([run], out, tracking)
    _print(Text(one.outcome.name, style="bold"), plot([one]), rounds_table(one), counts_table(one))
    refuse_damaged(damaged)


def compare(first: str, second: str, *, out: Path | None, tracking: str | None) -> None:
    """Print two side by side: what differs in their settings, both curves, which images both picked."""
    (a, b), damaged = found([first, second], out, tracking)
    _print(settings_table(a, b), plot([a, b]), together_table(a, b), both_picked(a, b))
    refuse_damaged(damaged)


def found(texts: Sequence[str], out: Path | None, tracking: str | None) -> tuple[list[Finished], list[str]]:
    """In the tracking store if that alone is named, else in the scratch folder; and what could not be read there."""
    if out is None and tracking is not None:
        return some_from_mlflow(texts, tracking)
    kept = finished_in(out or SCRATCH, tracking)
    try:
        return named(texts, kept.finished), kept.damaged
    except ConfigError as error:
        raise ConfigError("\n".join([str(error), *kept.damaged])) from None


def named(texts: Sequence[str], known: Sequence[Finished]) -> list[Finished]:
    """The experiment of each name or beginning of a fingerprint. Raises ConfigError for what is none or several."""
    return [_named(text, known) for text in texts]


def plot(experiments: Sequence[Finished]) -> Text:
    """Accuracy in % against labels used."""
    names = called(experiments)
    curves = {
        name: [(r.labels_used, 100 * r.metrics[f"{r.measured}/accuracy"]) for r in each.outcome.rounds]
        for name, each in zip(names, experiments, strict=True)
    }
    return Text(text_plot(curves, x="labels used", y="accuracy, %"))


def called(experiments: Sequence[Finished]) -> list[str]:
    """Their names, with the beginning of a fingerprint where they have one name between them."""
    names = [each.outcome.name for each in experiments]
    alike = len(set(names)) < len(names)
    return [
        f"{each.outcome.name} {each.outcome.fingerprint[:8]}" if alike else each.outcome.name for each in experiments
    ]


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
    for title in ("setting", *called([a, b])):
        table.add_column(title)
    ours, theirs = a.outcome.config.flat, b.outcome.config.flat
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            table.add_row(key, str(ours.get(key)), str(theirs.get(key)))
    return table


def together_table(a: Finished, b: Finished) -> Table:
    """A row for each number of labels that both have used: accuracies in %, and how many images both had labeled.

    Only accuracies on the same images have a difference, and only experiments on one split can pick the same images.
    """
    table = Table(title="side by side", box=box.SIMPLE)
    for title in ("labels", *called([a, b]), "difference", "labeled by both"):
        table.add_column(title, justify="right")
    ours, theirs = _by_labels(a), _by_labels(b)
    for labels in sorted(ours.keys() & theirs.keys()):
        (x, mine), (y, yours) = ours[labels], theirs[labels]
        p, q = (100 * r.metrics[f"{r.measured}/accuracy"] for r in (x, y))
        difference = f"{p - q:+.2f}" if x.measured == y.measured else "–"
        both = f"{len(mine & yours)}" if _one_split(a, b) else "–"
        table.add_row(f"{labels:,}", f"{p:.2f}", f"{q:.2f}", difference, both)
    return table


def both_picked(a: Finished, b: Finished) -> Text:
    """Which images both had labeled in the end, by their index in the dataset's training part."""
    if not _one_split(a, b):
        return Text("they have different splits: an image of one pool is not the other's")
    common = sorted(_picked(a) & _picked(b))
    shown = ", ".join(map(str, common[:SHOWN])) + (f", and {len(common) - SHOWN:,} more" if len(common) > SHOWN else "")
    return Text(f"labeled by both: {len(common):,}" + (f": {shown}" if common else ""))


def _by_labels(one: Finished) -> dict[int, tuple[Round, set[int]]]:
    """Iterations by labels used, with all images labeled until then."""
    picked: set[int] = set()
    found = {}
    for r in one.outcome.rounds:
        picked = picked | set(r.selection.indices.tolist())
        found[r.labels_used] = r, picked
    return found


def _picked(one: Finished) -> set[int]:
    return {index for r in one.outcome.rounds for index in r.selection.indices.tolist()}


def _one_split(a: Finished, b: Finished) -> bool:
    return a.outcome.split_digest == b.outcome.split_digest


def _named(text: str, known: Sequence[Finished]) -> Finished:
    same = [each for each in known if text in (each.outcome.name, each.outcome.title)]
    matches = same or [each for each in known if text and each.outcome.fingerprint.startswith(text)]
    if not matches:
        names = sorted({each.outcome.name for each in known})
        raise ConfigError(
            f"{shortened(text)} is no finished experiment; {did_you_mean(text, names)}give a name such as {names[0]}, "
            "or the beginning of a fingerprint"
        )
    if len(matches) > 1:
        prints = ", ".join(each.outcome.fingerprint[:12] for each in matches[:5])
        raise ConfigError(
            f"{shortened(text)} may be any of {len(matches)} experiments; give more of a fingerprint: {prints}"
        )
    return matches[0]


def _print(*parts: Text | Table) -> None:
    console(piped=WIDTH).print(Group(*parts))
