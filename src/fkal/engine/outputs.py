"""Outputs: logits of some images and the features that enter the last layer, in one forward pass each.

Both are held in memory. Methods that need the features of the whole pool do not stream them.
"""

from collections.abc import Generator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.evidence import Outputs
from fkal.data.images import ImageSet
from fkal.engine.memory import UNBOUNDED, MemoryBound
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.models.head import HeadInput
from fkal.models.modes import evaluating


def outputs(
    model: nn.Module,
    images: ImageSet,
    indices: Int[Tensor, " n"],
    *,
    batch_size: int,
    meter: Meter,
    what: str,
    bound: MemoryBound = UNBOUNDED,
) -> Generator[Progress, None, Outputs]:
    """Of at least one image, `batch_size` at a time. Raises ValueError where the features are beyond the bound."""
    parts: list[Outputs] = []
    batches = indices.split(batch_size)
    with evaluating(model):
        for done, x in enumerate(images.batches(batches, device=meter.device), start=1):
            with torch.no_grad(), HeadInput(model) as caught:
                made = model(x)
            meter.forward(len(x))
            assert caught.features is not None
            _refuse_beyond(bound, len(indices), caught.features, what)
            parts.append(Outputs(made, caught.features))
            yield Progress(f"outputs of {what}", done, len(batches), "batches")
    return Outputs(torch.cat([part.logits for part in parts]), torch.cat([part.features for part in parts]))


def logits(
    model: nn.Module, images: ImageSet, indices: Int[Tensor, " n"], *, batch_size: int, meter: Meter, what: str
) -> Generator[Progress, None, Float[Tensor, "n d"]]:
    """The logits alone, without features, which a large pool has no memory for."""
    parts: list[Tensor] = []
    batches = indices.split(batch_size)
    with evaluating(model):
        for done, x in enumerate(images.batches(batches, device=meter.device), start=1):
            with torch.no_grad():
                parts.append(model(x))
            meter.forward(len(x))
            yield Progress(f"outputs of {what}", done, len(batches), "batches")
    return torch.cat(parts)


def _refuse_beyond(bound: MemoryBound, n: int, features: Tensor, what: str) -> None:
    shape = (n, features.shape[1])
    if bound.is_exceeded(shape, features.dtype):
        raise ValueError(
            f"the features of the {what}, {n:,} x {shape[1]:,}, take {n * features[0].nbytes / 1e9:.1f} GB, more than "
            f"FKAL_MEMORY_GB={bound.gb:g}, and this method does not stream them; raise FKAL_MEMORY_GB, or take a "
            "method that streams, such as fisher_coverage, coreset or margin"
        )
