"""Embeddings in files, in the place of descriptors: known by the content of their images.

    <folder>/<digest of what they are made by>/0000.safetensors, 0001.safetensors, ...

Each file has the ids of some thousand images and their embeddings. Splits, seeds, rounds, and pools that grow share
them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fkal.config.schema import digest_of
from fkal.engine.embedding import MakeRows
from fkal.experiment.shared_files import locked, read_tensors, write_tensors
from fkal.folders import below
from fkal.notify import Notify

IDS, ROWS = "ids", "embedding"


@dataclass
class EmbeddingFiles:
    """An `EmbeddingCache` in `folder`; `about` is what an embedding depends on besides its image."""

    folder: Path
    about: Mapping[str, Any]
    say: Notify

    @cached_property
    def path(self) -> Path:
        """The folder of these embeddings."""
        return below(self.folder, digest_of(dict(self.about)))

    def lock(self) -> AbstractContextManager[None]:
        return locked(self.path / "embeddings", self.say)

    def read(self, ids: Tensor, rows: MakeRows) -> tuple[Tensor, Tensor]:
        wanted: dict[bytes, list[int]] = {}
        for place, key in enumerate(_keys(ids)):
            wanted.setdefault(key, []).append(place)
        is_known, found = torch.zeros(len(ids), dtype=torch.bool), torch.empty(0, 0)
        for shard in self._shards():
            pairs = [(row, place) for row, key in enumerate(_keys(shard[IDS])) for place in wanted.pop(key, ())]
            if pairs:
                kept, places = (list(column) for column in zip(*pairs, strict=True))
                found = rows(shard[ROWS].shape[1])
                found[places] = shard[ROWS][kept]
                is_known[places] = True
        return is_known, found

    @property
    def next_number(self) -> int:
        return 1 + max((int(file.stem) for file in self._files()), default=-1)

    def write(self, ids: Tensor, rows: Tensor, number: int | None = None) -> None:
        file = self.path / f"{self.next_number if number is None else number:04}.safetensors"
        self.path.mkdir(parents=True, exist_ok=True)
        write_tensors(file, {IDS: ids, ROWS: rows.contiguous()}, self._of)

    def _shards(self) -> Iterator[Mapping[str, Tensor]]:
        """Those that are whole; a damaged one, which was reported, is removed, and its images are embedded again."""
        for file in self._files():
            shard = read_tensors(file, self.say, self._of)
            if shard is None:
                file.unlink()
            else:
                yield shard

    def _files(self) -> list[Path]:
        return sorted(self.path.glob("[0-9]*.safetensors"))

    @property
    def _of(self) -> str:
        return json.dumps(dict(self.about), sort_keys=True)


def _keys(ids: Tensor) -> list[bytes]:
    return [row.tobytes() for row in ids.numpy()]
