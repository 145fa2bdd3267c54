"""Named random streams: one seed, spread so that a new draw in one place moves no other."""

import hashlib

import torch


def stream(seed: int, *name: str | int) -> torch.Generator:
    """Generator of the stream `name` (say `"train", 3`) of an experiment's seed, on the CPU.

    The same seed and name give the same draws, whatever was drawn elsewhere before; so a run is
    resumed by the names of its streams, and no generator state is ever stored.
    """
    path = "/".join(str(part) for part in (seed, *name))
    digest = hashlib.sha256(path.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
