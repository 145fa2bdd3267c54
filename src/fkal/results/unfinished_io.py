"""The state of a round within its training, in one file that is written over once every so many minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fkal.atomic_files import write_whole
from fkal.data.regular_files import FileTooLarge, IrregularFile, read_regular
from fkal.engine.unfinished import FitState, Unfinished
from fkal.notify import Notify
from fkal.results.request_io import digest_of_parts, metadata_of, request_of, request_parts

FORMAT = "fkal-unfinished-1"
LARGEST = 2**36
"""Bytes of a file that is read."""
SECONDS_BETWEEN = 10.0
"""Between two states that are held in memory, of which the last is written when the process is asked to end."""
REQUEST, WEIGHTS, MOMENTUM, SCALES, GENERATOR = "request.", "weights.", "momentum.", "scales.", "generator"
COUNTS = ("forward_images", "backward_images", "seconds")


class UnfinishedFile:
    """Keeps the last state in memory, and writes it every `minutes`; with 0 minutes it keeps nothing."""

    def __init__(self, path: Path, minutes: float, say: Notify, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._seconds, self._say, self._clock = path, 60 * minutes, say, clock
        self._seen = self._written = clock()
        self._held: Unfinished | None = None

    def read(self, b: int) -> Unfinished | None:
        """What is kept of round `b`; a file of another round, or one that is damaged, is as good as none."""
        try:
            found = unfinished_of(read_regular(self._path, limit=LARGEST))
        except FileNotFoundError:
            return None
        except (ValueError, IrregularFile, FileTooLarge) as flaw:
            self._say(f"{self._path}: cannot be gone on from ({flaw}); the round starts from its beginning")
            return None
        if found.request.b != b:
            return None
        self._say(f"round {b}: going on within its training, after epoch {len(found.losses[-1])}")
        return found

    @property
    def wants(self) -> bool:
        return self._seconds > 0 and self._clock() - self._seen >= min(SECONDS_BETWEEN, self._seconds)

    def offer(self, unfinished: Unfinished) -> None:
        self._held, self._seen = unfinished, self._clock()
        if self._seen - self._written >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Writes what is only in memory, as before the process ends."""
        if self._held is None:
            return
        write_whole(self._path, unfinished_bytes(self._held))
        self._held, self._written = None, self._clock()

    def clear(self) -> None:
        """The round is finished; its file went when the round was added."""
        self._held, self._seen, self._written = None, self._clock(), self._clock()


def unfinished_bytes(unfinished: Unfinished) -> bytes:
    """The content of the file; its header has all that is no tensor, and the digest of both."""
    columns, request = request_parts(unfinished.request)
    tensors = {
        **{REQUEST + name: tensor for name, tensor in columns.items()},
        **{WEIGHTS + name: tensor.contiguous() for name, tensor in unfinished.weights.items()},
        **{MOMENTUM + name: tensor.contiguous() for name, tensor in unfinished.fit.momentum.items()},
        **{SCALES + name: tensor for name, tensor in unfinished.fit.scales.items()},
        GENERATOR: unfinished.fit.generator,
    }
    counts = {name: dict(getattr(unfinished, name)) for name in COUNTS}
    facts = json.dumps({"format": FORMAT, "request": request, "losses": unfinished.losses, **counts}, allow_nan=False)
    return save(tensors, metadata={"unfinished": facts, "sha256": digest_of_parts(tensors, facts)})


def unfinished_of(content: bytes) -> Unfinished:
    """What was written. Raises ValueError for anything else."""
    try:
        header, tensors = metadata_of(content), load(content)
        facts: dict[str, Any] = json.loads(header["unfinished"])
        if facts["format"] != FORMAT or header["sha256"] != digest_of_parts(tensors, header["unfinished"]):
            raise ValueError("its digest or format does not fit")
        return Unfinished(
            request=request_of(_named(tensors, REQUEST), facts["request"]),
            losses=tuple(map(tuple, facts["losses"])),
            weights=_named(tensors, WEIGHTS),
            fit=FitState(_named(tensors, MOMENTUM), tensors[GENERATOR], _named(tensors, SCALES)),
            **{name: facts[name] for name in COUNTS},
        )
    except (SafetensorError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is corrupt: {error}") from error


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
