"""Gathering evidence: the expensive half of an acquisition, one pass over validation and pool."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from fkal.core.descriptors import Descriptors, loss_gradient, pooled
from fkal.core.evidence import Evidence, Features, FisherScores, Nothing
from fkal.core.pseudo_labels import PoolBatch, PseudoLabel, Reference
from fkal.data.images import ImageSet
from fkal.engine.metering import Meter, Progress
from fkal.models import Taps, evaluating

Labeler = Callable[[Tensor, Descriptors, Tensor], Tensor]
"""(logits, standardised z, dataset indices) of a batch -> the labels whose loss gives g."""


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
        y = labeler(logits.detach(), descriptors, batch)
        if with_grad:
            at_logits = loss_gradient(logits.detach(), y)
            gradients = torch.autograd.grad(logits, list(outputs.values()), at_logits)
            self.meter.backward(len(x))
            g = {tap: pooled(grad) for tap, grad in zip(outputs, gradients, strict=True)}
            descriptors = Descriptors.of(z, g)
        return Described(descriptors, logits.detach().argmax(dim=1), y)


def gather(
    describer: Describer,
    needs: type[Evidence],
    *,
    open_pool: Int[Tensor, " n"],
    validation: Int[Tensor, " m"],
    pseudo_label: PseudoLabel,
) -> Generator[Progress, None, tuple[Evidence, Int[Tensor, " t"]]]:
    """The evidence that a method needs, and the validation rows that are its targets.

    The targets are the misclassified validation images. Where the model makes no mistake on
    the validation set, all of it is the target: nothing says which part of it is far.
    """
    if needs is Nothing:
        return Nothing(len(open_pool)), torch.empty(0, dtype=torch.long)
    with_grad = needs is FisherScores
    device = describer.meter.device
    labels = describer.images.labels

    def validation_labels(logits: Tensor, z: Descriptors, indices: Tensor) -> Tensor:
        return logits.argmax(dim=1) if pseudo_label.predicted_g_v else labels[indices].to(device)

    known = yield from describer.describe(validation, validation_labels, with_grad=with_grad, what="validation")
    y_v = labels[validation].to(device)
    reference = Reference(known.descriptors, y_v)

    def pseudo_labels(logits: Tensor, z: Descriptors, indices: Tensor) -> Tensor:
        if not with_grad:
            return logits.argmax(dim=1)
        return pseudo_label.estimate(PoolBatch(logits, z, labels[indices].to(device)), reference)

    pool = yield from describer.describe(open_pool, pseudo_labels, with_grad=with_grad, what="pool")
    rows = target_rows(known.y_hat, y_v)
    targets = known.descriptors[rows]
    if with_grad:
        return FisherScores(pool.descriptors, targets, pool.y), rows.cpu()
    return Features(pool.descriptors, targets), rows.cpu()


def target_rows(y_hat: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> Int[Tensor, " t"]:
    """Rows of the misclassified images; all rows if there is none."""
    rows = (y_hat != y).nonzero()[:, 0]
    return rows if len(rows) else torch.arange(len(y), device=y.device)
