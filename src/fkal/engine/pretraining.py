"""Rotation pretraining: theta^0 from images without labels.

Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image Rotations,
ICLR 2018. All four rotations of every image stand in one batch.
"""

from collections.abc import Generator
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.data.images import ImageSet
from fkal.engine.metering import Meter, Progress
from fkal.engine.training import SgdConfig, optimizer, shuffled_batches
from fkal.models import head_name

ROTATIONS = 4


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(SgdConfig):
    """How theta^0 comes about: `rotation` pretraining on the biased pool, or `none` (random)."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    task: Literal["rotation", "none"] = "rotation"
    epochs: int = 8
    momentum: float = 0.5
    decay_epochs: tuple[int, ...] = (3, 6)


def rotated(x: Float[Tensor, "n c s s"]) -> Float[Tensor, "four_n c s s"]:
    """The images turned by 0, 90, 180 and 270 degrees, one turn after the other."""
    return torch.cat([x.rot90(turns, dims=(2, 3)) for turns in range(ROTATIONS)])


def pretrain(
    model: nn.Module,
    images: ImageSet,
    pool: Int[Tensor, " n"],
    *,
    config: PretrainConfig,
    generator: torch.Generator,
    meter: Meter,
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Yields progress by epoch; returns the pretrained state without the head (on the CPU).

    The model itself is left as it was; of it only the architecture and the first weights are
    used. Raises ValueError if the images are not square.
    """
    _, height, width = images.shape
    if height != width:
        raise ValueError(f"images of {height}x{width} cannot be turned by 90 degrees; set data.image_size")
    network = _with_rotation_head(model, generator).to(meter.device)
    sgd = optimizer(network, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, config.factor)
    for epoch in range(config.epochs):
        network.train()
        batches = [pool[r] for r in shuffled_batches(len(pool), config.batch_size, generator)]
        for x in images.batches(batches, device=meter.device, augment=generator):
            turns = torch.arange(ROTATIONS, device=meter.device).repeat_interleave(len(x))
            loss = F.cross_entropy(network(rotated(x)), turns)
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            sgd.step()
            meter.forward(ROTATIONS * len(x))
            meter.backward(ROTATIONS * len(x))
        schedule.step()
        yield Progress("pretrain", epoch + 1, config.epochs, "epochs")
    head = head_name(network)
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}


def _with_rotation_head(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy whose head predicts the rotation; the head's weights come from the generator."""
    network = deepcopy(model)
    name = head_name(network)
    old = network.get_submodule(name)
    head = nn.Linear(old.in_features, ROTATIONS)  # type: ignore[arg-type]
    bound = head.in_features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    network.set_submodule(name, head)
    return network
