"""Taps: the outputs of named layers, caught during a forward pass."""

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fkal.core.descriptors import pooled
from fkal.core.tokens import pooled_tokens
from fkal.errors import did_you_mean
from fkal.models.modes import evaluating
from fkal.models.settings import TokenRule


class Taps:
    """Catches the outputs of the named layers while the `with` block lasts.

    With `with_grad` each caught output can be differentiated with respect to: the first one
    reached becomes the root of the graph, so a backward pass goes as deep as the earliest tap
    and no deeper (the model's own parameters must not require gradients).
    Raises ValueError for a name that the model does not have.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], *, with_grad: bool = False) -> None:
        self.outputs: dict[str, Tensor] = {}
        self._layers = {name: _layer(model, name) for name in names}
        self._with_grad = with_grad
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "Taps":
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(partial(self._catch, name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _catch(self, name: str, layer: nn.Module, inputs: object, output: object) -> Tensor | None:
        """Keeps what the layer returns, and returns what goes on."""
        if not isinstance(output, Tensor):
            raise ValueError(f"layer {name} returns a {type(output).__name__}; tap a tensor")
        if not self._with_grad:
            self.outputs[name] = output.clone()  # a later layer may work in place
            return None
        if not output.requires_grad:
            output.requires_grad_()
        self.outputs[name] = output
        return output.clone()


POOLED_STAGES = "head.global_pool"
"""Where models of timm with channels last return one row per image."""


class TokenLayer(NamedTuple):
    """The last layer of a transformer that returns all tokens, and how many of the first belong to no patch."""

    layer: str
    prefix: int


def tokens_of(model: nn.Module) -> TokenLayer | None:
    """Where a transformer of torchvision or timm has its tokens; None for other models."""
    prefix, norm = getattr(model, "num_prefix_tokens", None), getattr(model, "norm", None)
    if isinstance(prefix, int) and isinstance(norm, nn.Module):
        return TokenLayer("norm", prefix)
    is_theirs = any(kind.__name__ == "VisionTransformer" for kind in type(model).__mro__)
    if is_theirs and hasattr(model, "class_token") and hasattr(model, "encoder"):
        return TokenLayer("encoder", 1)
    return None


@torch.no_grad()
def tap_widths(
    model: nn.Module, names: Sequence[str], shape: tuple[int, int, int], tokens: TokenRule | None = None
) -> dict[str, int]:
    """Descriptor length l_j of each tap for images of `shape` (c, h, w).

    One forward pass of a blank image. Raises ValueError if a tap does not exist, is not
    reached, or returns something that cannot be pooled.
    """
    _refuse_channels_last(model, names)
    device = next(model.parameters()).device
    with evaluating(model), Taps(model, names) as taps:
        model(torch.zeros(1, *shape, device=device))
    missing = [name for name in names if name not in taps.outputs]
    if missing:
        raise ValueError(f"taps {missing} are not reached by a forward pass; tap other layers")
    return {name: pooled_tap(model, taps.outputs[name], tokens=tokens).shape[1] for name in names}


def pooled_tap(
    model: nn.Module, output: Float[Tensor, "n ..."], *, grid: int = 1, tokens: TokenRule | None = None
) -> Float[Tensor, "n l"]:
    """One row per image of what a tapped layer returned, or of its gradient.

    Of a transformer's tokens those that belong to no patch are left out of the mean; `tokens` is another rule for them.
    """
    found = tokens_of(model) if output.dim() == 3 else None
    return pooled(output, grid) if found is None else pooled_tokens(output, tokens or "mean", found.prefix)


def _refuse_channels_last(model: nn.Module, names: Sequence[str]) -> None:
    """A shape alone does not tell (n, h, w, c) from (n, c, h, w); of torchvision's only Swin has the former."""
    if getattr(model, "output_fmt", "") == "NHWC":
        stages = [name for name in names if name.partition(".")[0] in ("layers", "stages", "norm", "patch_embed")]
        if stages:
            raise ValueError(f"taps {stages} of this model have their channels last; tap {POOLED_STAGES!r} instead")
    channels_last = [name for name in names if name != "permute" and name.partition(".")[0] in ("features", "norm")]
    is_swin = any(kind.__name__ == "SwinTransformer" for kind in type(model).__mro__)  # torchvision stays unimported
    if is_swin and channels_last:
        raise ValueError(f"taps {channels_last} of a Swin transformer have their channels last; tap 'permute' instead")


def _layer(model: nn.Module, name: str) -> nn.Module:
    layers = {known: layer for known, layer in model.named_modules() if known}
    if name in layers:
        return layers[name]
    hint = did_you_mean(name, layers)
    top = [known for known in layers if "." not in known]
    raise ValueError(f"the model has no layer {name!r} to tap; {hint}layers: {', '.join(top)}")
