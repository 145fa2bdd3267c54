"""Rotation pretraining: theta^0 from images without labels.

Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image Rotations,
ICLR 2018. All four rotations of every image stand in one batch.
"""

from collections.abc import Generator
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fkal.data.images import ImageSet
from fkal.engine.batch_parts import WHOLE, BatchParts
from fkal.engine.compiling import compiled
from fkal.engine.metering import Meter
from fkal.engine.progress import Progress
from fkal.engine.settings import PretrainConfig
from fkal.engine.training import next_rate, optimizer, refuse_unfinite, scaler_of, shuffled_batches, train_epoch
from fkal.models.registry import head_name

ROTATIONS = 4


def rotated(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "four_n c h w"]:
    """The images turned by 0, 90, 180 and 270 degrees, one turn after the other.

    Of an oblong image its centre square is turned and then scaled to the image's size, so that all four turns are
    stretched alike and the shape gives no turn away.
    """
    height, width = x.shape[2:]
    if height == width:
        return torch.cat([x.rot90(turns, dims=(2, 3)) for turns in range(ROTATIONS)])
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = x[:, :, top : top + side, left : left + side]
    return interpolate(rotated(square), size=(height, width), mode="bilinear", antialias=True)


def pretrain(
    model: nn.Module,
    images: ImageSet,
    pool: Int[Tensor, " n"],
    *,
    config: PretrainConfig,
    generator: torch.Generator,
    meter: Meter,
    compiles: bool = False,
    parts: BatchParts = WHOLE,
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Yields progress by epoch; returns the pretrained state without the head (on the CPU).

    The model itself is left as it was; of it only the architecture and the first weights are
    used. With `compiles` images pass a program of it.
    """
    network = _with_rotation_head(model, generator).to(meter.device).train()

    def labeled(x: Tensor, _rows: Tensor) -> tuple[Tensor, Tensor]:
        return rotated(x), _turns(len(x), meter.device)

    trained = parts.trained(compiled(network, compiles=compiles))
    scaler = scaler_of(config.precision, meter.device)
    sgd = optimizer(network, config, scaler)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, config.factor)
    for epoch in range(config.epochs):
        rows = shuffled_batches(len(pool), config.batch_size, generator)
        steps = parts.steps(images, pool, rows, labeled=labeled, augment=generator, device=meter.device)
        mean = train_epoch(
            trained,
            steps,
            sgd,
            meter,
            seed=generator.initial_seed() + epoch,
            precision=config.precision,
            scaler=scaler,
            parts=parts,
        )
        next_rate(schedule)
        refuse_unfinite(mean, epoch, "pretrain", config)
        yield Progress("pretraining", epoch + 1, config.epochs, "epochs")
    parts.agree(network)
    head = head_name(network)
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}


def _turns(n: int, device: torch.device) -> Int[Tensor, " four_n"]:
    """The labels of `rotated`: n times each turn."""
    return torch.arange(ROTATIONS, device=device).repeat_interleave(n)


def _with_rotation_head(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy whose head predicts the rotation; the head's weights come from the generator."""
    network = deepcopy(model)
    name = head_name(network)
    old = network.get_submodule(name)
    head = nn.utils.skip_init(nn.Linear, old.in_features, ROTATIONS)
    bound = head.in_features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=generator)
        head.bias.uniform_(-bound, bound, generator=generator)
    network.set_submodule(name, head)
    return network
