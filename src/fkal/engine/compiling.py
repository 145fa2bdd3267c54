"""torch.compile: passes of training and of embeddings as one program a model, where it can be had.

What catches the outputs of single layers passes the model as it is: hooks that come later are no part of a program.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import nn

from fkal.core.precision_names import Precision
from fkal.engine.precision import computing
from fkal.errors import first_line
from fkal.interrupts import raise_interrupt_in

TRIED = 2
"""Images of the pass that tries it; batch normalisation needs two."""


def compiled(model: nn.Module, *, compiles: bool) -> nn.Module:
    """The model that shares its weights with this one and passes as one program; without `compiles` the same model.

    Sizes of batches stay open, so that what a program computes does not depend on the batches before.
    """
    return cast(nn.Module, torch.compile(model, dynamic=True)) if compiles else model


def why_not(
    model: nn.Module,
    shape: tuple[int, int, int],
    device: torch.device,
    *,
    learns: bool,
    precision: Precision | None = None,
) -> str | None:
    """Why the model cannot be compiled on this device, in a line; None where it can.

    A copy of it passes blank images of `shape` (c, h, w) forward and, where it `learns`, backward.
    """
    copy = deepcopy(model).to(device).train(learns)
    blank = torch.zeros(TRIED, *shape, device=device)
    try:
        with torch.random.fork_rng(), torch.set_grad_enabled(learns), computing(precision, device):
            passed = compiled(copy, compiles=True)(blank)
            if learns:
                passed.float().sum().backward()
    except Exception as error:  # a compiler of another kind fails by errors of its own
        raise_interrupt_in(error)
        return first_line(error)
    return None
