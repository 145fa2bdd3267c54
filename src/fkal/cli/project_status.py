"""What `fkal status` prints."""

from __future__ import annotations

from rich.table import Table

from fkal.cli.progress import duration
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.labeling.intervals import FEWEST_ROUNDS, Interval
from fkal.labeling.status import Agreement, Status

MOST_CLASSES = 12
"""So many classes have a row; the rarest of the pool come first."""


def show(status: Status, *, as_json: bool) -> None:
    """Batches, curve, classes, agreement, advice."""
    if as_json:
        echo_json(status.tree)
        return
    spent = f", {duration(status.seconds)} spent on them" if status.seconds else ""
    left_out = f", {status.skipped} skipped, {status.none_of_these} of no class"
    echo(f"{status.name}: {status.pool:,} images in the pool, {status.labeled:,} labeled{left_out}{spent}")
    for batch in status.batches:
        echo(f"open: {batch.folder} ({batch.kind}), {batch.missing} of {batch.images} images have no label")
    _show_curve(status)
    _show_classes(status)
    if status.conflicts:
        echo(f"people disagree on {status.conflicts} images, and labels.resolve does not decide; fkal train names them")
    if status.with_guesses.of:
        echo(f"people agreed with {_share(status.with_guesses)} of the guesses")
    if status.between_people.of:
        echo(f"people agreed with each other on {_share(status.between_people)} of the pairs of labels")
    if status.dedup is not None:
        value, share = status.dedup["similarity"], status.dedup["left_out"]
        echo(f"near-copies: --dedup {value:g} would leave out {100 * share:.1f} % of the open images")
    echo(f"advice: {status.advice.do} (rule: {status.advice.rule}; {status.advice.why})")


def _show_curve(status: Status) -> None:
    if not status.curve:
        return
    table = Table(title="accuracy (%) with its 95 % interval")
    for name in ("round", "labels", "validation", "of images", "test"):
        table.add_column(name, justify="right")
    for point in status.curve:
        test = "" if point.test is None else _percent(point.test)
        images = f"{point.validation_images:,}"
        table.add_row(str(point.round), f"{point.labels:,}", _percent(point.validation), images, test)
    console(piped=WIDTH).print(table)
    echo("validation images steer the selection, so this accuracy is optimistic; fkal audit gives an unbiased one")
    if status.on_validation:
        echo("they are trained on as well; each counts by a model that was not trained on it")
    _show_validation_alone(status)
    if status.gain is not None:
        echo(f"gain of the last round: {_points(status.gain)}")
    if status.audit is not None:
        echo(f"audit of round {status.audit_round}: {_percent(status.audit)} % of the images that were not labeled")
    what = f"the next {status.next_labels} labels are likely to bring"
    if status.forecast is None:
        echo(f"{what}: unknown (it takes {FEWEST_ROUNDS} rounds whose errors fall)")
    else:
        echo(f"{what}: {_points(status.forecast)}")


def _show_validation_alone(status: Status) -> None:
    """The other way to use the validation images, where the labels of the pool are not worth more."""
    alone, balanced = status.validation_alone, status.balanced
    if status.on_validation or alone is None or balanced is None:
        return
    line = f"balanced accuracy: {100 * balanced:.1f} %; a head on the validation images alone has {100 * alone:.1f} %"
    more = "; train.on_validation: true trains on both; take acquisition.name: random or base with it"
    echo(line + (more if alone > balanced else ""))


def _show_classes(status: Status) -> None:
    names = sorted(status.pool_mix or status.validation_mix, key=lambda name: status.pool_mix.get(name, 0.0))
    if names:
        table = Table(title="shares of classes (%); the rarest of the pool first")
        for column in ("class", "pool, estimated", "validation", "labels"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for name in names[:MOST_CLASSES]:
            pool = f"{100 * status.pool_mix[name]:.1f}" if name in status.pool_mix else ""
            shown = f"{100 * status.validation_mix.get(name, 0.0):.1f}"
            table.add_row(name, pool, shown, str(status.labeled_counts.get(name, 0)))
        console(piped=WIDTH).print(table)
        if len(names) > MOST_CLASSES:
            echo(f"and {len(names) - MOST_CLASSES} more classes; --json has them all")
    if status.rare:
        found = sum(n > 0 for n in status.rare.values())
        echo(f"rare classes found: {found} of {len(status.rare)}, with {sum(status.rare.values())} labels")
    if status.ambiguous:
        named = ", ".join(status.ambiguous)
        echo(
            f"warning: classes have the names of statuses of labels: {named}; in labels that come in, such a name "
            "means the class. New classes cannot be called so"
        )
    if status.without_validation:
        named = ", ".join(status.without_validation[:MOST_CLASSES])
        echo(f"no validation images: {named}; add some by fkal val add, or accuracy says nothing of them")


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _points(interval: Interval) -> str:
    low, high = f"{100 * interval.low:+.1f}", f"{100 * interval.high:+.1f}"
    return f"{100 * interval.value:+.1f} points ({low} to {high})"


def _share(agreement: Agreement) -> str:
    return f"{agreement.same} of {agreement.of} ({100 * agreement.same / agreement.of:.0f} %)"
