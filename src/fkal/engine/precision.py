"""Precision: what passes through a network compute in; what is made of their outputs is computed in float32."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import torch

from fkal.core.precision_names import Precision

AUTOCAST: Mapping[str, torch.dtype] = MappingProxyType({"bfloat16": torch.bfloat16, "float16": torch.float16})
"""What torch casts to, layer by layer, where this is safe."""

OF_PRODUCTS: Mapping[str, str] = MappingProxyType({"float32": "ieee", "tf32": "tf32"})
"""torch's own words for how a GPU multiplies float32."""


def resolved(precision: Precision | None, device: torch.device) -> Precision | None:
    """`mixed` as what the device has; other names as they are. Raises ValueError for what it cannot compute in."""
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"{device.type} has no TF32; give float32, or leave it out")
    if precision in ("mixed", *AUTOCAST) and device.type not in ("cpu", "cuda"):
        raise ValueError(f"{device.type} is not tried in it; give float32, or leave it out")
    if precision != "mixed":
        return precision
    return "bfloat16" if device.type == "cpu" or _has_bfloat16(device) else "float16"


def exact(precision: Precision | None) -> Precision | None:
    """That of passes over few images, whose results others are held against: no autocast."""
    return "float32" if precision in ("mixed", *AUTOCAST) else precision


@contextmanager
def computing(precision: Precision | None, device: torch.device) -> Iterator[None]:
    """Passes inside compute in this precision; afterwards torch is as it was.

    No generator may yield inside, as others would then compute in it, too.
    """
    name = resolved(precision, device) or ""
    if name in AUTOCAST:
        with torch.autocast(device.type, AUTOCAST[name]):
            yield
    elif name in OF_PRODUCTS and device.type == "cuda":
        with _products(OF_PRODUCTS[name]):
            yield
    else:
        yield


@contextmanager
def _products(word: str) -> Iterator[None]:
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]  # no stubs
    before = matmul.fp32_precision, conv.fp32_precision
    matmul.fp32_precision = conv.fp32_precision = word
    try:
        yield
    finally:
        matmul.fp32_precision, conv.fp32_precision = before


def _has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)
