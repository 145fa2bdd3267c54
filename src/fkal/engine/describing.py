"""Describing images by a model's tapped layers: features, loss gradients, and the labels behind these."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.descriptors import Descriptors, loss_gradient, pooled
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.models.modes import evaluating
from fkal.models.taps import Taps


@dataclass(frozen=True)
class Batch:
    """What a labeler sees of a batch of images: inputs, model outputs, standardised z, dataset indices."""

    x: Float[Tensor, "n c h w"]
    logits: Float[Tensor, "n d"]
    z: Descriptors
    indices: Int[Tensor, " n"]


Labeler = Callable[[Batch], Tensor]
"""The labels whose loss gives g."""


LabeledBy = Literal["arg_max", "true", "estimated"]
"""Whose labels a labeler returns: the model's, the dataset's, those of the pseudo-label that is set."""


@dataclass(frozen=True)
class Described:
    """What one pass over some images leaves: descriptors, arg max, and the labels behind g."""

    descriptors: Descriptors
    y_hat: Int[Tensor, " n"]
    y: Int[Tensor, " n"]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By names that `of` reads: `z.conv1`, `g.conv1`, `y_hat`, `y`."""
        z = {f"z.{tap}": block for tap, block in self.descriptors.z.items()}
        g = {f"g.{tap}": block for tap, block in self.descriptors.g.items()}
        return {**z, **g, "y_hat": self.y_hat, "y": self.y}

    @staticmethod
    def of(tensors: Mapping[str, Tensor]) -> "Described":
        z, g = ({n[2:]: block for n, block in tensors.items() if n.startswith(kind)} for kind in ("z.", "g."))
        return Described(Descriptors(z, g), tensors["y_hat"], tensors["y"])


class Asked(NamedTuple):
    """What is asked of a describer: of which images, by which taps, in which batches, what."""

    indices: Int[Tensor, " n"]
    taps: tuple[str, ...]
    batch_size: int
    what: Literal["z", "z and g", "features"]
    labels: LabeledBy
    grid: int


Made = Generator[Progress, None, dict[str, Tensor]]
Make = Callable[[int, Tensor], Made]
"""Describes a run of the indices, of which the first row is given; each tensor has their rows, but `passes`."""
Keep = Callable[[Asked, Make], Made]
"""Has what is asked for made, or finds it where it was kept."""


def not_kept(asked: Asked, make: Make) -> Made:
    return make(0, asked.indices)


@dataclass(frozen=True)
class Describer:
    """Describes images by a model's tapped layers, a batch of `batch_size` at a time.

    Feature maps are averaged in `grid` x `grid` fields (`pooled`). Of what `keep` had kept, the passes are counted that
    once made it.
    """

    model: nn.Module
    images: ImageSet
    taps: tuple[str, ...]
    batch_size: int
    meter: Meter
    keep: Keep = not_kept
    grid: int = 1

    def describe(
        self, indices: Int[Tensor, " n"], labeler: Labeler, *, labels: LabeledBy, with_grad: bool, what: str
    ) -> Generator[Progress, None, Described]:
        """z, and g if asked for, of the images in one forward and one backward pass each.

        g is the gradient of each image's own cross-entropy under the labels that `labeler`
        returns, with respect to the tapped tensors, pooled like z (section 3.2); its length is lost
        in standardising.
        """
        asked = Asked(indices, self.taps, self.batch_size, "z and g" if with_grad else "z", labels, self.grid)

        def of_batch(batch: Tensor, x: Tensor) -> dict[str, Tensor]:
            return self._describe_batch(batch, x, labeler, with_grad).tensors

        return Described.of((yield from self._counted(asked, of_batch, f"descriptors of {what}")))

    def features(self, indices: Int[Tensor, " n"], *, what: str) -> Generator[Progress, None, Float[Tensor, "n l"]]:
        """Pooled features of all taps side by side, not standardised, in one forward pass each."""
        asked = Asked(indices, self.taps, self.batch_size, "features", "arg_max", self.grid)
        return (yield from self._counted(asked, self._features_of_batch, f"features of {what}"))["features"]

    def _counted(self, asked: Asked, of_batch: "OfBatch", what: str) -> Made:
        before = self.meter.passes
        tensors = yield from self.keep(asked, partial(self._made, of_batch, what, len(asked.indices)))
        forward, backward = tensors.pop("passes").sum(dim=0).tolist()
        now = self.meter.passes
        self.meter.forward(forward - (now[0] - before[0]))
        self.meter.backward(backward - (now[1] - before[1]))
        return tensors

    def _made(self, of_batch: "OfBatch", what: str, n: int, first: int, indices: Int[Tensor, " r"]) -> Made:
        before, parts = self.meter.passes, []
        batches = indices.split(self.batch_size)
        with evaluating(self.model):
            stream = self.images.batches(batches, device=self.meter.device)
            for done, (batch, x) in enumerate(zip(batches, stream, strict=True), start=1 + first // self.batch_size):
                parts.append(of_batch(batch, x))
                yield Progress(what, done, -(-n // self.batch_size), "batches")
        passes = [[now - then for now, then in zip(self.meter.passes, before, strict=True)]]
        return {**concatenated(parts), "passes": torch.tensor(passes)}

    def _features_of_batch(self, batch: Tensor, x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad(), Taps(self.model, self.taps) as taps:
            self.model(x)
        self.meter.forward(len(x))
        return {"features": torch.cat([self._pooled(taps.outputs[tap]) for tap in self.taps], dim=1)}

    def _describe_batch(self, batch: Tensor, x: Tensor, labeler: Labeler, with_grad: bool) -> Described:
        with (
            torch.set_grad_enabled(with_grad),
            Taps(self.model, self.taps, with_grad=with_grad) as taps,
        ):
            logits = self.model(x)
        self.meter.forward(len(x))
        outputs = {tap: taps.outputs[tap] for tap in self.taps}
        z = {tap: self._pooled(output.detach()) for tap, output in outputs.items()}
        descriptors = Descriptors.of(z)
        y = labeler(Batch(x, logits.detach(), descriptors, batch))
        if with_grad:
            at_logits = loss_gradient(logits.detach(), y)
            gradients = torch.autograd.grad(logits, list(outputs.values()), at_logits)
            self.meter.backward(len(x))
            g = {tap: self._pooled(grad) for tap, grad in zip(outputs, gradients, strict=True)}
            descriptors = Descriptors.of(z, g)
        return Described(descriptors, logits.detach().argmax(dim=1), y)

    def _pooled(self, output: Tensor) -> Float[Tensor, "n l"]:
        return pooled(output, self.grid)


OfBatch = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Of the indices of a batch and its images, the rows."""


def concatenated(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of all parts, name by name."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
