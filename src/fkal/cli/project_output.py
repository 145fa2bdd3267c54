"""What the commands of a project's rounds print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fkal.cli.tables import simulated_table
from fkal.cli.terminal import WIDTH, console, echo, echo_json
from fkal.engine.measured import measured_part, part_word
from fkal.labeling.batch import TO_LABEL, Batch
from fkal.labeling.predicting import Predicted
from fkal.labeling.rounds import Asked, Trained
from fkal.labeling.simulating import Simulated
from fkal.labeling.trainings import Training

MOST_GUESSES = 8
"""So many classes of guesses are named."""


def show_batch(asked: Asked, *, as_json: bool) -> None:
    """Where the batch is and what comes next."""
    if as_json:
        echo_json(batch_json(asked))
        return
    _echo_batch(asked)


def show_withdrawn(batch: Batch, *, as_json: bool) -> None:
    if as_json:
        echo_json({"withdrawn": batch.name, "folder": str(batch.folder)})
        return
    echo(f"{batch.folder}: withdrawn; its labels stay")


def show_training(trained: Trained, *, as_json: bool) -> None:
    if as_json:
        echo_json(training_json(trained))
        return
    _echo_training(trained)


def show_next(trained: Trained, asked: Asked, *, as_json: bool) -> None:
    if as_json:
        echo_json({"training": training_json(trained), "batch": batch_json(asked)})
        return
    _echo_training(trained)
    _echo_batch(asked)


def show_simulated(found: Sequence[Simulated], *, as_json: bool) -> None:
    """A row per method, a column per round; JSON has each seed."""
    if as_json:
        echo_json({"simulated": [_simulated_json(each) for each in found]})
        return
    console(piped=WIDTH).print(simulated_table(found))


def _simulated_json(each: Simulated) -> dict[str, Any]:
    return {
        "method": each.method,
        "seed": each.seed,
        "folder": str(each.folder),
        "rounds": [
            {
                "b": this.b,
                "labels_used": this.labels_used,
                "selected": this.selection.indices.tolist(),
                **this.metrics,
            }
            for this in each.rounds
        ],
    }


def show_predicted(predicted: Predicted, *, as_json: bool) -> None:
    if as_json:
        echo_json({**predicted._asdict(), "path": str(predicted.path)})
        return
    flawed = f", {predicted.unreadable:,} could not be read" if predicted.unreadable else ""
    echo(f"{predicted.path}: {predicted.images:,} images have a prediction{flawed}")


def show_exported(path: Path, *, as_json: bool) -> None:
    if as_json:
        echo_json({"path": str(path)})
        return
    echo(f"{path}: the model, its classes and its preprocessing")


def show_agreement(*, as_json: bool) -> None:
    """For `fkal relabel` where nothing is doubtful."""
    if as_json:
        echo_json({"batch": None, "images": 0})
        return
    echo("the model agrees with every label that was not checked already; there is nothing to check")


def batch_json(asked: Asked) -> dict[str, Any]:
    """One batch with its images."""
    batch = asked.batch
    return {
        "batch": batch.name,
        "kind": batch.request.kind,
        "round": batch.request.round,
        "method": batch.request.method,
        "folder": str(batch.folder),
        "to_label": str(batch.folder / TO_LABEL),
        "new": asked.is_new,
        "images": [{"path": image.path, "digest": image.digest, "guess": image.guess} for image in batch.images],
    }


def training_json(trained: Trained) -> dict[str, Any]:
    """One training with its figures."""
    training = trained.training
    return {
        "round": training.b,
        "new": trained.is_new,
        "labels_used": training.labels_used,
        "labeled_counts": dict(zip(training.classes, training.round["labeled_counts"], strict=True)),
        "metrics": dict(training.metrics),
        **{name: training.facts[name] for name in ("skipped", "none_of_these") if name in training.facts},
    }


def measured_accuracy(training: Training) -> tuple[str, float]:
    """What was measured on, and the accuracy there."""
    part = measured_part(training.metrics)
    return part_word(part), training.metrics[f"{part}/accuracy"]


def _echo_batch(asked: Asked) -> None:
    batch = asked.batch
    what = {"select": "images to label", "audit": "random images to label", "relabel": "labeled images to check"}
    state = "" if asked.is_new else ", open since before"
    echo(f"{batch.folder / TO_LABEL}: {len(batch.images)} {what.get(batch.request.kind, 'images')}{state}")
    guesses = Counter(image.guess for image in batch.images if image.guess)
    if guesses:
        named = ", ".join(f"{name} {n}" for name, n in guesses.most_common(MOST_GUESSES))
        more = len(guesses) - MOST_GUESSES
        echo(f"guessed classes: {named}{f' and {more} more' if more > 0 else ''}")
    then = "fkal status" if batch.request.kind == "audit" else "fkal next"
    echo(f"label them: fkal label, or fill the column label and run fkal label import FILE; then: {then}")


def _echo_training(trained: Trained) -> None:
    training = trained.training
    part, accuracy = measured_accuracy(training)
    new = "" if trained.is_new else " (trained before, nothing changed)"
    echo(f"round {training.b}: {training.labels_used} labels, {part} accuracy {100 * accuracy:.1f} %{new}")
