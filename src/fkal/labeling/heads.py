"""The head of a frozen project, as the embeddings of today take it.

Embeddings are standardised by the whole pool. A pool that grows has another mean and other components, and the head of
the last training belongs to those of then. So each training keeps its map, and its head is moved from it to today's.
"""

from __future__ import annotations

import hashlib

from safetensors import SafetensorError
from safetensors.torch import load, save

from fkal.atomic_files import write_whole
from fkal.core.standardising import Standardising
from fkal.data.regular_files import FileTooLarge, IrregularFile, read_regular
from fkal.engine.loop import Weights
from fkal.engine.rounds import Round
from fkal.folders import in_place
from fkal.labeling.learner import Learner
from fkal.labeling.project import Project
from fkal.labeling.trainings import Training

LARGEST = 2**32
"""Bytes of a map that is read."""


def keep_standardising(project: Project, learner: Learner) -> dict[str, str]:
    """Writes the map of a frozen project, once for all trainings that have the same; the fact that names it."""
    seen = learner.standardising
    if seen is None:
        return {}
    content = _bytes(seen)
    digest = hashlib.sha256(content).hexdigest()
    project.state_path.mkdir(parents=True, exist_ok=True)
    write_whole(in_place(project.state_path, _name(digest)), content)
    return {"standardising": digest}


def weights_today(project: Project, training: Training, finished: Round, learner: Learner) -> Weights | None:
    """The weights of a training for the embeddings as they are now.

    They are what they were where the model is not frozen or the map is the same. None where the images have changed
    since and the map of then is not there, as of a training by an earlier version.
    """
    now = learner.standardising
    digest = training.facts.get("standardising")
    if now is None or digest == hashlib.sha256(_bytes(now)).hexdigest():
        return finished.weights
    then = None if digest is None else _read(project, digest)
    if then is None:
        return finished.weights if _has_same_images(training, learner) else None
    if then.mean.shape != now.mean.shape:
        return finished.weights  # of another backbone, which whoever loads them refuses by its settings
    weight, bias = then.refolded(finished.weights["head.weight"], finished.weights["head.bias"], now)
    return {**finished.weights, "head.weight": weight, "head.bias": bias}


def _has_same_images(training: Training, learner: Learner) -> bool:
    pool, validation = learner.dataset.pool_listing, learner.dataset.validation_listing
    assert pool is not None and validation is not None
    then = [training.facts.get(name) for name in ("pool_digest", "validation_digest", "pool_images")]
    return then == [pool.digest, validation.digest, len(learner.dataset.pool)]


def _read(project: Project, digest: str) -> Standardising | None:
    try:
        content = read_regular(in_place(project.state_path, _name(digest)), limit=LARGEST)
        return Standardising(**load(content)) if hashlib.sha256(content).hexdigest() == digest else None
    except (FileNotFoundError, IrregularFile, FileTooLarge, SafetensorError, TypeError):
        return None


def _bytes(seen: Standardising) -> bytes:
    parts = {"mean": seen.mean, "deviation": seen.deviation, "components": seen.components}
    return save({name: part.contiguous() for name, part in parts.items() if part is not None})


def _name(digest: str) -> str:
    return f"standardising-{digest}.safetensors"
