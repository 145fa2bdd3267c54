"""The metrics of an experiment, as names and values: pure functions that know no tracking store.

A Round and the files of a run say `test/accuracy`; the store says `accuracy/test`, because MLflow's page sorts its
sections by name and opens at the first. `STORED` is the only place where one becomes the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from fkal.engine.settings import FEW_CLASSES
from fkal.escaping import storable

STORED: Mapping[str, str] = MappingProxyType(
    {
        "test/accuracy": "accuracy/test",
        "test/macro_accuracy": "accuracy/macro",
        "test/minority_accuracy": "accuracy/rare",
        "test/worst_class_accuracy": "accuracy/worst",
        "val/accuracy": "accuracy/validation",
        "val/macro_accuracy": "accuracy/validation_macro",
        "val/minority_accuracy": "accuracy/validation_rare",
        "holdout/accuracy": "accuracy/holdout",
        "holdout/macro_accuracy": "accuracy/holdout_macro",
        "holdout/minority_accuracy": "accuracy/holdout_rare",
        "holdout/worst_class_accuracy": "accuracy/holdout_worst",
    }
)
"""Names in the store by names in a Round; other metrics have one name. Older stores have a Round's names."""

PARENT_METRICS = (
    *STORED,
    "select/minority_fraction",
    "pseudo/accuracy",
    "pseudo/minority_precision",
    "pseudo/minority_recall",
)

if TYPE_CHECKING:
    from fkal.engine.rounds import Round


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    step: int


def stored_name(name: str) -> str:
    """The store's name of a Round's metric; a name of the store stays as it is."""
    return STORED.get(name, name)


def stored_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a run under the store's names of today, whichever names the run has."""
    before = {stored_name(name): value for name, value in metrics.items() if name in STORED}
    return {**before, **{name: value for name, value in metrics.items() if name not in STORED}}


def parent_points(finished: Round) -> list[Point]:
    """The curves; their step is the number of labels used."""
    known = [name for name in PARENT_METRICS if name in finished.metrics]
    return [Point(stored_name(name), finished.metrics[name], finished.labels_used) for name in known]


def child_points(finished: Round) -> list[Point]:
    """Everything of one round; the loss has a value per epoch."""
    losses = [Point("train/loss", loss, epoch) for epoch, loss in enumerate(finished.train_loss, 1)]
    once = {
        **stored_metrics(finished.metrics),
        "labels_used": finished.labels_used,
        "train/epoch": finished.epoch,
        **dict(_costs(finished)),
        **{f"select/class_{k}": n for k, n in enumerate(selected_counts(finished)) if _few_classes(finished)},
    }
    return [*(Point(name, float(value), finished.labels_used) for name, value in once.items()), *losses]


def selected_counts(finished: Round) -> list[int]:
    """How many of this round's picks each class has."""
    return finished.selection.labels.bincount(minlength=len(finished.labeled_counts)).tolist()


def summary(finished: Round) -> dict[str, Any]:
    """One round as JSON holds it."""
    return {
        "b": finished.b,
        "labels_used": finished.labels_used,
        "epoch": finished.epoch,
        "metrics": dict(finished.metrics),
        "selected_counts": selected_counts(finished),
        "labeled_counts": list(finished.labeled_counts),
        "confusion": finished.confusion.tolist(),
        "forward_images": dict(finished.forward_images),
        "backward_images": dict(finished.backward_images),
        "seconds": dict(finished.seconds),
        "train_loss": list(finished.train_loss),
    }


def round_digest(finished: Round) -> str:
    """16 hexadecimal digits of the picks and the figures (not of times): the same round, or another."""
    selection = finished.selection
    content = [selection.indices.tolist(), selection.labels.tolist(), dict(finished.metrics), finished.train_loss]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def param_text(value: Any) -> str:
    """As YAML would read it again: true, null, 0.1, text that a database can hold."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return storable(str(value))


def nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a tree; lists and mappings that stand as JSON are read."""
    tree: dict[str, Any] = {}
    for key, value in params.items():
        *sections, name = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = _read_json(value)
    return tree


def _read_json(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _costs(finished: Round) -> Iterator[tuple[str, float]]:
    for direction, by_phase in (("forward", finished.forward_images), ("backward", finished.backward_images)):
        yield f"cost/{direction}_images", sum(by_phase.values())
        for phase, images in by_phase.items():
            yield f"cost/{phase}_{direction}_images", images
    yield "time/total_s", sum(finished.seconds.values())
    for phase, seconds in finished.seconds.items():
        yield f"time/{phase}_s", seconds
        images = finished.forward_images.get(phase, 0)
        if images and seconds > 0:
            yield f"perf/{phase}_img_per_s", images / seconds
    if finished.peak_memory_mb is not None:
        yield "gpu/max_mem_allocated_mb", finished.peak_memory_mb


def _few_classes(finished: Round) -> bool:
    return len(finished.labeled_counts) <= FEW_CLASSES
