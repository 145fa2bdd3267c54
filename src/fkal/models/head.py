"""The head: a model's last linear layer, and what enters it."""

from types import TracebackType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fkal.models.modes import evaluating
from fkal.models.registry import head_name


class HeadInput:
    """Catches what enters the head while the `with` block lasts; `weight` is the head's own.

    Raises ValueError for a model without a linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        head = model.get_submodule(head_name(model))
        assert isinstance(head, nn.Linear)
        self.head = head
        self.features: Tensor | None = None
        self._handle: torch.utils.hooks.RemovableHandle | None = None

    def __enter__(self) -> "HeadInput":
        self._handle = self.head.register_forward_pre_hook(self._catch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._handle is not None
        self._handle.remove()

    @property
    def weight(self) -> Float[Tensor, "d l"]:
        return self.head.weight.detach()

    def _catch(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0].detach().clone()


@torch.no_grad()
def head_width(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """How many features enter the head, by one forward pass of a blank image of `shape` (c, h, w).

    Raises ValueError for a model whose logits are not what its last linear layer makes of one row an image.
    """
    blank = torch.zeros(1, *shape, device=next(model.parameters()).device)
    with evaluating(model), HeadInput(model) as caught:
        logits = model(blank)
    rows = caught.features
    if rows is None or rows.dim() != 2 or not _is_head(caught.head, rows, logits):
        raise ValueError(
            f"{type(model).__name__} does not end in the linear layer {head_name(model)!r} that makes the logits; "
            "give it one, or take a method that asks for taps"
        )
    return rows.shape[1]


def _is_head(head: nn.Linear, rows: Tensor, logits: Tensor) -> bool:
    made = F.linear(rows, head.weight, head.bias)
    return made.shape == logits.shape and torch.allclose(made, logits, rtol=1e-4, atol=1e-5)
