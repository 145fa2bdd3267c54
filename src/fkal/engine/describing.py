"""Describing images by a model's tapped layers: features, loss gradients, and the labels behind these."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.descriptors import Descriptors, loss_gradient, pooled
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter, Progress
from fkal.models import Taps, evaluating


@dataclass(frozen=True)
class Batch:
    """What a labeler sees of a batch of images: inputs, model outputs, standardised z, dataset indices."""

    x: Float[Tensor, "n c h w"]
    logits: Float[Tensor, "n d"]
    z: Descriptors
    indices: Int[Tensor, " n"]


Labeler = Callable[[Batch], Tensor]
"""The labels whose loss gives g."""


@dataclass(frozen=True)
class Described:
    """What one pass over some images leaves: descriptors, arg max, and the labels behind g."""

    descriptors: Descriptors
    y_hat: Int[Tensor, " n"]
    y: Int[Tensor, " n"]


@dataclass(frozen=True)
class Describer:
    """Describes images by a model's tapped layers, a batch of `batch_size` at a time."""

    model: nn.Module
    images: ImageSet
    taps: Sequence[str]
    batch_size: int
    meter: Meter

    def describe(
        self, indices: Int[Tensor, " n"], labeler: Labeler, *, with_grad: bool, what: str
    ) -> Generator[Progress, None, Described]:
        """z, and g if asked for, of the images in one forward and one backward pass each.

        g is the gradient of each image's own cross-entropy under the labels that `labeler`
        returns, with respect to the tapped tensors, pooled like z (section 3.2); its length is lost
        in standardising.
        """
        parts: list[Described] = []
        batches = indices.split(self.batch_size)
        with evaluating(self.model):
            stream = self.images.batches(batches, device=self.meter.device)
            for done, (batch, x) in enumerate(zip(batches, stream, strict=True), start=1):
                parts.append(self._describe_batch(batch, x, labeler, with_grad))
                yield Progress(f"descriptors of {what}", done, len(batches), "batches")
        return Described(
            Descriptors.concatenated(part.descriptors for part in parts),
            torch.cat([part.y_hat for part in parts]),
            torch.cat([part.y for part in parts]),
        )

    def features(self, indices: Int[Tensor, " n"], *, what: str) -> Generator[Progress, None, Float[Tensor, "n l"]]:
        """Pooled features of all taps side by side, not standardised, in one forward pass each."""
        rows: list[Tensor] = []
        batches = indices.split(self.batch_size)
        with evaluating(self.model):
            for done, x in enumerate(self.images.batches(batches, device=self.meter.device), start=1):
                with torch.no_grad(), Taps(self.model, self.taps) as taps:
                    self.model(x)
                self.meter.forward(len(x))
                rows.append(torch.cat([pooled(taps.outputs[tap]) for tap in self.taps], dim=1))
                yield Progress(f"features of {what}", done, len(batches), "batches")
        return torch.cat(rows)

    def _describe_batch(self, batch: Tensor, x: Tensor, labeler: Labeler, with_grad: bool) -> Described:
        with (
            torch.set_grad_enabled(with_grad),
            Taps(self.model, self.taps, with_grad=with_grad) as taps,
        ):
            logits = self.model(x)
        self.meter.forward(len(x))
        outputs = {tap: taps.outputs[tap] for tap in self.taps}
        z = {tap: pooled(output.detach()) for tap, output in outputs.items()}
        descriptors = Descriptors.of(z)
        y = labeler(Batch(x, logits.detach(), descriptors, batch))
        if with_grad:
            at_logits = loss_gradient(logits.detach(), y)
            gradients = torch.autograd.grad(logits, list(outputs.values()), at_logits)
            self.meter.backward(len(x))
            g = {tap: pooled(grad) for tap, grad in zip(outputs, gradients, strict=True)}
            descriptors = Descriptors.of(z, g)
        return Described(descriptors, logits.detach().argmax(dim=1), y)
