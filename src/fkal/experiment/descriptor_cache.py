"""Descriptors of theta^0 in files, which the first iterations of several experiments read.

    <folder>/<digest of what they are made of>/0000.safetensors, 0001.safetensors, ...

Each file has the rows of some 65,000 images, and in its header what they are made of; see `shared_tensors`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fkal.config.schema import digest_of
from fkal.data.digest import bytes_digest
from fkal.engine.describing import Asked, Made, Make, concatenated
from fkal.experiment.shared_files import shared_tensors
from fkal.notify import Notify

SHARD_ROWS = 1 << 16


@dataclass
class KeptDescriptors:
    """A `Keep` that reads what lies in `folder`, and with `makes` has the rest made and kept there.

    `about` is what descriptors depend on, whoever asks for them (weights, images, arithmetic), `labeling` what
    estimated labels depend on besides. `used` names the folders of what was asked for.
    """

    folder: Path
    about: Mapping[str, Any]
    labeling: Mapping[str, Any]
    device: torch.device
    say: Notify
    makes: bool = False
    used: list[Path] = field(default_factory=list)

    def __call__(self, asked: Asked, make: Make) -> Made:
        facts = self._facts(asked)
        folder = self.folder / digest_of(facts)
        if not self.makes and not folder.exists():
            return (yield from make(0, asked.indices))
        self.used.append(folder)
        parts: list[Mapping[str, Tensor]] = []
        for place, (first, some) in enumerate(_shards(asked)):
            path, made = folder / f"{place:04}.safetensors", partial(make, first, some)
            parts.append((yield from shared_tensors(path, made, self.say, of=json.dumps(facts, sort_keys=True))))
        return {name: rows.to(self.device) for name, rows in concatenated(parts).items()}

    def _facts(self, asked: Asked) -> dict[str, Any]:
        return {
            **self.about,
            "images": bytes_digest([asked.indices.to(torch.int64).cpu().numpy().tobytes()]),
            "taps": list(asked.taps),
            "batch_size": asked.batch_size,
            "what": asked.what,
            "labels": {"estimated": dict(self.labeling)} if asked.labels == "estimated" else asked.labels,
            **({"grid": asked.grid} if asked.grid > 1 else {}),
        }


def _shards(asked: Asked) -> Sequence[tuple[int, Tensor]]:
    """First row and indices of each; whole batches, so that none is otherwise made up than without files."""
    rows = max(1, SHARD_ROWS // asked.batch_size) * asked.batch_size
    return [(first, asked.indices[first : first + rows]) for first in range(0, len(asked.indices), rows)]
