"""Files that experiments share: splits and pretrained weights, made once, used by all.

Two processes that want the same file at once make it once: the second waits for the first.
"""

import os
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fkal.data.config import BiasConfig, DataConfig
from fkal.data.datasets import Dataset
from fkal.data.splits import CorruptSplit, Split, check_split, draw_split, read_split, write_split

P = TypeVar("P")
Say = Callable[[str], None]


def split_path(out: Path, name: str, seed: int, digest: str) -> Path:
    """`<out>/splits/mnist-ir100-s0-1a2b3c4d.json`, the end being that of the recipe's digest."""
    return out / "splits" / f"{name}-s{seed}-{digest[:8]}.json"


def shared_split(path: Path, dataset: Dataset, data: DataConfig, bias: BiasConfig, seed: int, say: Say) -> Split:
    """The split of this recipe: the file at `path` if it is right, else drawn and written there.

    A file that is corrupt is reported and drawn again, which gives the same split.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            try:
                split = read_split(path)
                check_split(split, dataset)
            except CorruptSplit as error:
                say(f"{error}; it is drawn again")
            else:
                return split
        split = draw_split(dataset, data, bias, seed)
        write_split(split, path)
    return split


def shared_weights(
    path: Path,
    make: Callable[[], Generator[P, None, dict[str, Tensor]]],
    fits: Callable[[Mapping[str, Tensor]], bool],
    say: Say,
) -> Generator[P, None, dict[str, Tensor]]:
    """The weights at `path`, or else made by `make` (whose progress is passed on) and kept there.

    A file that is truncated, or whose tensors do not fit, is reported and made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            try:
                weights = load(path.read_bytes())
                if fits(weights):
                    return weights
                say(f"{path}: its tensors do not fit the model; pretraining again")
            except SafetensorError as error:
                say(f"{path}: not a whole safetensors file ({error}); pretraining again")
        weights = yield from make()
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_bytes(save(weights))
        os.replace(scratch, path)
    return weights
