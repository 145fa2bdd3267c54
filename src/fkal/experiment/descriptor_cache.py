"""Descriptors of theta^0 in files, which the first rounds of several experiments read.

    <folder>/<digest of what they are made of>/0000.safetensors, 0001.safetensors, ...

Each file has the rows of some 65,000 images, and in its header what they are made of.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fkal.config.schema import digest_of
from fkal.core.picks import is_finite
from fkal.data.digest import bytes_digest
from fkal.engine.describing import PASSES, DescriptorKey
from fkal.engine.progress import Progress
from fkal.errors import listed
from fkal.experiment.shared_files import locked, read_tensors, write_tensors
from fkal.folders import below
from fkal.notify import Notify

LABELS = ("y", "y_hat")
"""Names of the tensors of whole numbers; all others hold what was measured."""


def _flaw(rows: Mapping[str, Tensor], n: int) -> str:
    """What is wrong with the tensors of `n` images; empty if nothing is."""
    wide = {name: tensor for name, tensor in rows.items() if name != PASSES}
    if not wide or PASSES not in rows or tuple(rows[PASSES].shape) != (1, 2) or rows[PASSES].dtype != torch.int64:
        return f"it has the tensors {listed(sorted(rows))}"
    return next((flaw for name, tensor in wide.items() if (flaw := _flaw_of(name, tensor, n))), "")


def _flaw_of(name: str, tensor: Tensor, n: int) -> str:
    if not tensor.dim() or len(tensor) != n:
        return f"{name} is no {n} rows"
    if tensor.is_floating_point() == (name in LABELS):
        return f"{name} has numbers of the type {str(tensor.dtype).removeprefix('torch.')}"
    return "" if is_finite(tensor) else f"{name} has NaN or infinite numbers"


class ShardMade(Exception):
    """The one shard that was asked for is kept; what follows it is for others."""


@dataclass
class DescriptorFiles:
    """A `DescriptorCache` in `folder`; without `makes` it keeps only what is kept there already.

    `about` is what descriptors depend on, whoever asks for them (weights, images, arithmetic), `labeling` what
    estimated labels depend on besides. `used` names the folders that were read or written. Files that are not there are
    made `elsewhere` first, where there is such a place. With `only` it raises ShardMade as soon as that file is there.
    """

    folder: Path
    about: Mapping[str, Any]
    labeling: Mapping[str, Any]
    say: Notify
    makes: bool = False
    used: list[Path] = field(default_factory=list)
    elsewhere: Callable[[Sequence[Path]], Generator[Progress, None, None]] | None = None
    only: Path | None = None

    def keeps(self, key: DescriptorKey) -> bool:
        return self.makes or self._folder(key).exists()

    def parts(self, key: DescriptorKey) -> Generator[Progress, None, Sequence[DescriptorKey]]:
        if self.only is not None:
            wanted = [shard for shard in key.shards if self.path(shard) == self.only]
            return wanted or key.shards
        missing = [path for shard in key.shards if not (path := self.path(shard)).exists()]
        if missing and self.elsewhere is not None:
            yield from self.elsewhere(missing)
        return key.shards

    def lock(self, key: DescriptorKey) -> AbstractContextManager[None]:
        return locked(self.path(key), self.say)

    def read(self, key: DescriptorKey) -> dict[str, Tensor] | None:
        self._use(key)
        rows = read_tensors(self.path(key), self.say, self._of(key))
        if rows is not None and (flaw := _flaw(rows, len(key.rows))):
            self.say(f"{self.path(key)}: not what was kept there ({flaw}); it is made again")
            return None
        if rows is not None and self.path(key) == self.only:
            raise ShardMade
        return rows

    def write(self, key: DescriptorKey, rows: Mapping[str, Tensor]) -> None:
        self._use(key)
        write_tensors(self.path(key), rows, self._of(key))
        if self.path(key) == self.only:
            raise ShardMade

    def _use(self, key: DescriptorKey) -> None:
        folder = self._folder(key)
        if not self.used or self.used[-1] != folder:
            self.used.append(folder)

    def path(self, key: DescriptorKey) -> Path:
        """The file of a shard's rows."""
        return below(self.folder, f"{digest_of(self._facts(key))}/{key.shard or 0:04}.safetensors")

    def _folder(self, key: DescriptorKey) -> Path:
        return below(self.folder, digest_of(self._facts(key)))

    def _of(self, key: DescriptorKey) -> str:
        return json.dumps(self._facts(key), sort_keys=True)

    def _facts(self, key: DescriptorKey) -> dict[str, Any]:
        """All that the rows of a key depend on."""
        return {
            **self.about,
            "images": bytes_digest([key.indices.to(torch.int64).cpu().numpy().tobytes()]),
            "taps": list(key.taps),
            "batch_size": key.batch_size,
            "what": key.what,
            "labels": {"estimated": dict(self.labeling)} if key.labels == "estimated" else key.labels,
            **({"grid": key.grid} if key.grid > 1 else {}),
        }
