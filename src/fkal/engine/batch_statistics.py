"""Batch normalisation over the whole batch where each process has a part of it, on CPUs and GPUs alike.

torch's own `SyncBatchNorm` needs GPUs.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from fkal.engine.processes import refuse_lost_process

SIGNATURE = inspect.signature(F.batch_norm)


class SharedStatistics(TorchFunctionMode):
    """Within it `F.batch_norm`, which each kind of such a layer calls, shares mean and variance in training.

    What comes in with `counts` false has no part in them: it stands for a part of the batch that is empty.
    """

    counts = True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            given = SIGNATURE.bind(*args, **kwargs)
            given.apply_defaults()
            if given.arguments["training"]:
                return self._normalised(*given.arguments.values())
        return func(*args, **kwargs)

    def _normalised(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        _training: bool,
        momentum: float,
        eps: float,
    ) -> Tensor:
        """Variance by differences from the shared mean, as one process computes it."""
        values, others = x.float(), [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        counted = values if self.counts else values * 0.0
        n = _summed(values.new_tensor([counted.numel() / x.shape[1] if self.counts else 0.0]))
        mean = _summed(counted.sum(dim=others)) / n
        apart = values - mean.view(shape)
        squares = (apart if self.counts else apart * 0.0).square().sum(dim=others)
        var = _summed(squares) / n
        with torch.no_grad():
            _go_towards(running_mean, mean, momentum)
            _go_towards(running_var, var * (n / (n - 1).clamp(min=1)), momentum)
        normalised = apart * (var + eps).rsqrt().view(shape)
        if weight is not None:
            normalised = normalised * weight.view(shape)
        if bias is not None:
            normalised = normalised + bias.view(shape)
        return normalised.to(x.dtype)


def _go_towards(running: Tensor | None, now: Tensor, momentum: float) -> None:
    if running is not None:
        running.lerp_(now.to(running), momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(_ctx: FunctionCtx, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        with refuse_lost_process():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total
