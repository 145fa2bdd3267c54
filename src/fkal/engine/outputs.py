"""Outputs: logits of some images and the features that enter the last layer, in one forward pass each."""

from collections.abc import Generator

import torch
from jaxtyping import Int
from torch import Tensor, nn

from fkal.core.evidence import Outputs
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.models.head import HeadInput
from fkal.models.modes import evaluating


def outputs(
    model: nn.Module, images: ImageSet, indices: Int[Tensor, " n"], *, batch_size: int, meter: Meter, what: str
) -> Generator[Progress, None, Outputs]:
    """Of at least one image, `batch_size` at a time."""
    parts: list[Outputs] = []
    batches = indices.split(batch_size)
    with evaluating(model):
        for done, x in enumerate(images.batches(batches, device=meter.device), start=1):
            with torch.no_grad(), HeadInput(model) as caught:
                logits = model(x)
            meter.forward(len(x))
            assert caught.features is not None
            parts.append(Outputs(logits, caught.features))
            yield Progress(f"outputs of {what}", done, len(batches), "batches")
    return Outputs(torch.cat([part.logits for part in parts]), torch.cat([part.features for part in parts]))
