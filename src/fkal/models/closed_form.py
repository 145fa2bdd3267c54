"""Gradients of a model's logits at its taps in closed form, where a model knows them: no backward pass is needed."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


class LogitGradients(NamedTuple):
    """Of all d logits with respect to one tapped tensor of n images.

    `jacobian` is averaged over a map's positions, as features are; `products` are the tensor times its gradient,
    summed over all entries.
    """

    jacobian: Float[Tensor, "d n l"]
    products: Float[Tensor, "d n"]


@runtime_checkable
class ClosedForm(Protocol):
    """A model that knows gradients of its logits.

    `closed_form_taps` maps each tap that it knows them for, as the model stands now, to the taps whose outputs they
    are made of.
    """

    @property
    def closed_form_taps(self) -> Mapping[str, tuple[str, ...]]: ...

    def logit_gradients(self, tap: str, outputs: Mapping[str, Tensor]) -> LogitGradients: ...
