"""A Round as two files' bytes: tensors as safetensors, all else as JSON. Both ways, bit by bit."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fkal.engine.rounds import Round, Selection
from fkal.results.round_facts import FORMAT, UnusableRound, facts_bytes, read_facts

WEIGHTS = "weights."
SELECTION = "selection."
CONFUSION = "confusion"


def round_bytes(finished: Round) -> tuple[bytes, bytes]:
    """(safetensors, JSON). The JSON has the digest of the other, so it is written last.

    Raises ValueError if a figure is not finite.
    """
    tensors = save(_tensors(finished))
    facts = {
        "format": FORMAT,
        "sha256": hashlib.sha256(tensors).hexdigest(),
        "weights": list(finished.weights),
        "b": finished.b,
        "labels_used": finished.labels_used,
        "epoch": finished.epoch,
        "metrics": _finite("metric", finished.metrics, finished.b),
        "train_loss": list(_finite("loss of epoch", dict(enumerate(finished.train_loss, 1)), finished.b).values()),
        "labeled_counts": list(finished.labeled_counts),
        "forward_images": dict(finished.forward_images),
        "backward_images": dict(finished.backward_images),
        "seconds": _finite("seconds of", finished.seconds, finished.b),
        "peak_memory_mb": finished.peak_memory_mb,
    }
    return tensors, facts_bytes(facts)


def load_round(tensor_bytes: bytes, json_bytes: bytes) -> Round:
    """The Round of two files' content. Raises UnusableRound if they are not what was written."""
    facts = read_facts(json_bytes)
    if hashlib.sha256(tensor_bytes).hexdigest() != facts["sha256"]:
        raise UnusableRound("its safetensors file is not the one that was written with its JSON file")
    try:
        return _assembled(load(tensor_bytes), facts)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UnusableRound(f"its files are corrupt ({error})") from error


def _tensors(finished: Round) -> dict[str, Tensor]:
    selection = {f.name: getattr(finished.selection, f.name) for f in fields(Selection)}
    named = {
        CONFUSION: finished.confusion,
        **{SELECTION + name: tensor for name, tensor in selection.items() if tensor is not None},
        **{WEIGHTS + name: tensor for name, tensor in finished.weights.items()},
    }
    return {name: t.detach().cpu().contiguous().clone() for name, t in named.items()}  # no shared memory


def _assembled(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Round:
    classes = len(facts["labeled_counts"])
    if tensors[CONFUSION].shape != (classes, classes):
        raise ValueError(f"a confusion matrix of shape {tuple(tensors[CONFUSION].shape)}, and {classes} classes")
    return Round(
        b=facts["b"],
        labels_used=facts["labels_used"],
        selection=Selection(
            **{name.removeprefix(SELECTION): t for name, t in tensors.items() if name.startswith(SELECTION)}
        ),
        metrics={name: float(value) for name, value in facts["metrics"].items()},
        train_loss=tuple(map(float, facts["train_loss"])),
        epoch=facts["epoch"],
        confusion=tensors[CONFUSION],
        labeled_counts=tuple(facts["labeled_counts"]),
        forward_images=facts["forward_images"],
        backward_images=facts["backward_images"],
        seconds=facts["seconds"],
        peak_memory_mb=facts["peak_memory_mb"],
        weights={name: tensors[WEIGHTS + name] for name in facts["weights"]},
    )


def _finite(what: str, figures: Mapping[Any, float], b: int) -> dict[Any, float]:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{what} {name} of round {b} is {value}: only finite figures are kept; "
                "if the training diverged, lower train.lr"
            )
    return {name: float(value) for name, value in figures.items()}
