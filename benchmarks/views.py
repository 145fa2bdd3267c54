"""Every class's gradients on LeNet's taps and made-up images: in closed form against backward passes, and of these
some classes at a time against all at once; and the information of few views by their inner products against
covariances.

    python benchmarks/views.py [--images 500] [--views 16]

A view is made in all ways before the next one is; a figure is the ratio of processor seconds in this run. Some classes
and all must agree on every bit, the others but for rounding.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from unittest import mock

import torch
from torch import Tensor

from fkal.core import information
from fkal.core.views import View
from fkal.engine import views
from fkal.engine.metering import Meter
from fkal.models.registry import build

Made = TypeVar("Made")
TAPS = (("fc1",), ("conv2",), ("conv1", "conv2", "fc1"))


def agree(a: View, b: View) -> bool:
    return all(
        torch.equal(one[tap], other[tap])
        for one, other in ((a.z, b.z), (a.jacobian, b.jacobian), (a.products, b.products))
        for tap in a.z
    )


def alike(a: View, b: View) -> bool:
    return all(
        torch.allclose(one[tap], other[tap], rtol=1e-3, atol=1e-5)
        for one, other in ((a.z, b.z), (a.jacobian, b.jacobian), (a.products, b.products))
        for tap in a.z
    )


def backward(model: torch.nn.Module, x: Tensor, taps: tuple[str, ...], entries: int) -> View:
    with (
        mock.patch.dict(views.GRADIENT_ENTRIES, cpu=entries),
        mock.patch.object(type(model), "closed_form_taps", {}),
    ):
        return views.view_of(model, x, taps, Meter(torch.device("cpu")))


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    start = time.process_time()
    made = make()
    return made, time.process_time() - start


def ratios(model: torch.nn.Module, images: list[Tensor], taps: tuple[str, ...]) -> tuple[float, float]:
    """Closed form by backward passes, some classes at a time by all at once."""
    few, closed_seconds, few_seconds, all_seconds = views.GRADIENT_ENTRIES["cpu"], 0.0, 0.0, 0.0
    backward(model, images[0], taps, few)  # warm
    views.view_of(model, images[0], taps, Meter(torch.device("cpu")))
    for x in images:
        closed, seconds = timed(partial(views.view_of, model, x, taps, Meter(torch.device("cpu"))))
        closed_seconds += seconds
        some, seconds = timed(partial(backward, model, x, taps, few))
        few_seconds += seconds
        whole, seconds = timed(partial(backward, model, x, taps, 1 << 40))
        all_seconds += seconds
        assert agree(some, whole), "the gradients of some classes and of all differ"
        assert alike(closed, some), "the closed form differs from backward passes"
    return closed_seconds / few_seconds, few_seconds / all_seconds


def information_ratio(model: torch.nn.Module, images: list[Tensor], taps: tuple[str, ...]) -> float:
    """Inner products of the views, for those taps that have as many units, by covariances of the units."""
    made = [views.view_of(model, x, taps, Meter(torch.device("cpu"))) for x in images]
    information.information(made, diagonal=False)  # warm
    few, seconds = timed(lambda: information.information(made, diagonal=False))
    with mock.patch.object(information, "_few", return_value=False):
        full, full_seconds = timed(lambda: information.information(made, diagonal=False))
    assert torch.allclose(few, full, rtol=1e-4, atol=1e-4), "the information differs"
    return seconds / full_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--views", type=int, default=16)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build("lenet", (1, 28, 28), 10)
    images = [torch.randn(given.images, 1, 28, 28) for _ in range(given.views)]
    for taps in TAPS:
        closed, few = ratios(model, images, taps)
        print(
            f"{'+'.join(taps)}: closed form / backward passes {closed:.2f} of the time, some classes / all classes at "
            f"once {few:.2f}; information of {given.views} views, inner products / covariances "
            f"{information_ratio(model, images, taps):.2f}"
        )


if __name__ == "__main__":
    main()
