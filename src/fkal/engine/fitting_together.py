"""Members of an ensemble trained as one batched model: on a GPU small models wait for launches, not for sums."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from fkal.data.augmentation import child_seed
from fkal.data.images import ImageSet
from fkal.engine.losses import LOSSES
from fkal.engine.metering import Meter
from fkal.engine.precision import computing, resolved
from fkal.engine.settings import TrainConfig
from fkal.engine.training import next_rate, refuse_unfinite, shuffled_batches


def learn_together(members: Sequence[nn.Module], config: TrainConfig, device: torch.device) -> bool:
    """Whether it wins, and can be: several members on a GPU, all layers learn, and none has buffers.

    Batch normalisation updates buffers in place. A loss of float16 is scaled for one model at a time.
    """
    has_buffers = any(True for _ in members[0].buffers())
    is_scaled = resolved(config.precision, device) == "float16"
    return len(members) > 1 and device.type == "cuda" and config.layers == "all" and not has_buffers and not is_scaled


def fit_together(
    members: Sequence[nn.Module],
    images: ImageSet,
    indices: Int[Tensor, " n"],
    labels: Int[Tensor, " n"],
    *,
    config: TrainConfig,
    generators: Sequence[torch.Generator],
    meter: Meter,
) -> Iterator[list[float]]:
    """Train all members in place; yields each epoch's mean loss (nats) of each member when the epoch is over.

    Each has an order of its own from its generator; what augments images and what drops units out comes from the first.
    The members have what they learned once the last epoch is over. Raises FloatingPointError as soon as a loss is not
    finite.
    """
    counts = labels.bincount(minlength=len(images.classes)).to(meter.device)
    parameters, buffers = stack_module_state([member.train() for member in members])
    stacked = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    sgd = torch.optim.SGD(
        stacked.values(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, config.factor)

    def logits_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        made: Tensor = functional_call(members[0], (parameters, buffers), (x,))
        return made

    passed = torch.vmap(logits_of, randomness="different")
    for epoch in range(config.epochs):
        orders = [shuffled_batches(len(indices), config.batch_size, draws) for draws in generators]
        rows = [torch.cat(step) for step in zip(*orders, strict=True)]
        stream = images.batches([indices[r] for r in rows], device=meter.device, augment=generators[0])
        for draws in generators[1:]:
            child_seed(draws)  # that the first one draws to augment by, so that orders stay those of one by one
        totals = torch.zeros(len(members), device=meter.device)
        with torch.random.fork_rng():
            torch.manual_seed(generators[0].initial_seed() + epoch)
            for r, x in zip(rows, stream, strict=True):
                y = labels[r].to(meter.device).view(len(members), -1)
                with computing(config.precision, meter.device):
                    logits = passed(stacked, buffers, x.unflatten(0, (len(members), -1))).float()
                    means = torch.stack(
                        [LOSSES[config.loss](of_one, its, counts) for of_one, its in zip(logits, y, strict=True)]
                    )
                    sgd.zero_grad(set_to_none=True)
                    means.sum().backward()
                sgd.step()
                totals += means.detach() * y.shape[1]
                meter.forward(len(x))
                meter.backward(len(x))
        next_rate(schedule)
        losses = (totals / len(indices)).tolist()
        for loss in losses:
            refuse_unfinite(loss, epoch, "train", config)
        if epoch + 1 == config.epochs:
            _keep(members, stacked)
        yield losses


def _keep(members: Sequence[nn.Module], stacked: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for e, member in enumerate(members):
            for name, parameter in member.named_parameters():
                parameter.copy_(stacked[name][e])
