"""Views of images for the Monte Carlo pseudo-labels: small perturbations, and every class's gradients under them."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fkal.core.views import View
from fkal.engine.metering import Meter
from fkal.models.closed_form import ClosedForm, LogitGradients
from fkal.models.modes import evaluating
from fkal.models.settings import TokenRule
from fkal.models.taps import Taps, pooled_tap

GRADIENT_ENTRIES = {"cpu": 1 << 22}
"""Gradient entries of one tapped tensor held at once, by type of device; elsewhere OTHER_GRADIENT_ENTRIES.

On a CPU convolutions and poolings go class by class even in a batched backward pass, which then stacks their gradients:
with more than these 16 MiB of float32 the stacking costs more than the rest gains.
"""

OTHER_GRADIENT_ENTRIES = 1 << 26
"""What memory bounds: 256 MiB of float32."""


@dataclass(frozen=True)
class Perturbation:
    """A turn by `degrees`, then additive noise: one Monte Carlo view, the same for every image.

    What turns in from outside is 0, the mean of normalised images.
    """

    degrees: float
    noise: Float[Tensor, "c h w"]

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        from torchvision.transforms.v2 import InterpolationMode  # half a second, for these views alone
        from torchvision.transforms.v2.functional import rotate

        return rotate(x, self.degrees, interpolation=InterpolationMode.BILINEAR) + self.noise.to(x.device)


def perturbations(
    k: int, shape: tuple[int, int, int], *, degrees: float, noise: float, generator: torch.Generator
) -> list[Perturbation]:
    """k views: a turn uniform within +-`degrees`, Gaussian noise of standard deviation `noise` (of normalised inputs).

    Drawn once and shared by all images (as in the authors' program), so no image's views depend on
    the batch that it stands in.
    """
    turns = (torch.rand(k, generator=generator) * 2 - 1) * degrees
    return [Perturbation(float(turn), noise * torch.randn(shape, generator=generator)) for turn in turns]


def view_of(
    model: nn.Module, x: Float[Tensor, "n c h w"], taps: Sequence[str], meter: Meter, tokens: TokenRule | None = None
) -> View:
    """One forward pass, and a backward pass of all d logits: n forward and n d backward images.

    The gradients that a model knows in closed form count as the passes that they stand for.
    """
    closed = isinstance(model, ClosedForm) and model.closed_form_taps.keys() >= set(taps)
    logits, outputs, gradients = _in_closed_form(model, x, taps) if closed else _backward(model, x, taps, tokens)
    meter.forward(len(x))
    meter.backward(logits.numel())
    return View(
        {tap: pooled_tap(model, outputs[tap], tokens=tokens) for tap in taps},
        {tap: gradients[tap].jacobian for tap in taps},
        logits.double().softmax(dim=1),
        {tap: gradients[tap].products for tap in taps},
    )


Differentiated = tuple[Tensor, Mapping[str, Tensor], Mapping[str, LogitGradients]]
"""Logits, tapped tensors, and gradients of all logits at these."""


def _in_closed_form(model: nn.Module, x: Float[Tensor, "n c h w"], taps: Sequence[str]) -> Differentiated:
    assert isinstance(model, ClosedForm)
    needed = {name: None for tap in taps for name in model.closed_form_taps[tap]}
    with evaluating(model), torch.no_grad():
        with Taps(model, tuple(needed)) as caught:
            logits = model(x)
        return logits, caught.outputs, {tap: model.logit_gradients(tap, caught.outputs) for tap in taps}


def _backward(
    model: nn.Module, x: Float[Tensor, "n c h w"], taps: Sequence[str], tokens: TokenRule | None
) -> Differentiated:
    """Few gradients are taken as one batch; of more, some classes or one at a time."""
    with evaluating(model), torch.enable_grad(), Taps(model, taps, with_grad=True) as caught:
        logits = model(x)
        outputs = {tap: caught.outputs[tap] for tap in taps}
        entries = GRADIENT_ENTRIES.get(x.device.type, OTHER_GRADIENT_ENTRIES)
        at_once = max(1, entries // max(output.numel() for output in outputs.values()))
        pool = partial(pooled_tap, model, tokens=tokens)
        parts = [_logit_gradients(logits, outputs, some, pool) for some in torch.arange(logits.shape[1]).split(at_once)]
    gradients = {
        tap: LogitGradients(*(torch.cat(blocks) for blocks in zip(*(part[tap] for part in parts), strict=True)))
        for tap in taps
    }
    return logits.detach(), {tap: output.detach() for tap, output in outputs.items()}, gradients


def _logit_gradients(
    logits: Float[Tensor, "n d"],
    outputs: Mapping[str, Tensor],
    classes: Int[Tensor, " c"],
    pool: Callable[[Tensor], Tensor],
) -> dict[str, LogitGradients]:
    """Of some classes' logits."""
    n, d = logits.shape
    basis = torch.eye(d, dtype=logits.dtype, device=logits.device)[classes.to(logits.device)]
    at_logits = basis[:, None, :].expand(-1, n, -1)
    by_tap = dict(zip(outputs, _batched_gradients(logits, list(outputs.values()), at_logits), strict=True))
    jacobian = {tap: pool(g.flatten(0, 1)).unflatten(0, (len(classes), n)) for tap, g in by_tap.items()}
    products = {
        tap: torch.einsum("cnf,nf->cn", g.flatten(2), outputs[tap].detach().flatten(1)) for tap, g in by_tap.items()
    }
    return {tap: LogitGradients(jacobian[tap], products[tap]) for tap in by_tap}


def _batched_gradients(
    logits: Float[Tensor, "n d"], outputs: Sequence[Tensor], at_logits: Float[Tensor, "c n d"]
) -> tuple[Float[Tensor, "c n ..."], ...]:
    """A batch of one without the cost of batching."""
    if len(at_logits) > 1:
        return torch.autograd.grad(logits, outputs, at_logits, is_grads_batched=True, retain_graph=True)
    return tuple(g[None] for g in torch.autograd.grad(logits, outputs, at_logits[0], retain_graph=True))


def perturbed_views(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    taps: Sequence[str],
    drawn: Sequence[Perturbation],
    meter: Meter,
    tokens: TokenRule | None = None,
) -> Generator[View]:
    """A view a perturbation, each made when it is asked for, so that memory holds one at a time."""
    for perturbation in drawn:
        yield view_of(model, perturbation(x), taps, meter, tokens)
