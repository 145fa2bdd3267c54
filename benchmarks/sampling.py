"""What Monte Carlo dropout gains by its shortcuts, on LeNet and made-up 28x28 images.

    python benchmarks/sampling.py [--images 2000] [--batch 500] [--passes 32]

Each figure is a ratio of processor seconds in this run, both sides taking turns. What precedes the first dropout is
computed once an image, against k whole passes: both must agree on every mean probability up to what k draws scatter.
Masks are numbers, against booleans from the same draws: both must agree on every bit.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch import Tensor

from fkal.engine.metering import Meter
from fkal.engine.sampling import Sampler
from fkal.models import dropout
from fkal.models.dropout import monte_carlo_dropout
from fkal.models.modes import evaluating
from fkal.models.registry import build

Passes = Callable[[torch.nn.Module, list[Tensor], int], Tensor]


def split_passes(model: torch.nn.Module, batches: list[Tensor], k: int) -> Tensor:
    sampler, draws = Sampler(model, Meter(torch.device("cpu"))), torch.Generator().manual_seed(1)
    return torch.cat([sampler(x, k, draws).mean(dim=0) for x in batches])


def split_passes_with_booleans(model: torch.nn.Module, batches: list[Tensor], k: int) -> Tensor:
    with boolean_masks():
        return split_passes(model, batches, k)


@torch.no_grad()
def whole_passes(model: torch.nn.Module, batches: list[Tensor], k: int) -> Tensor:
    draws = torch.Generator().manual_seed(2)
    with evaluating(model), monte_carlo_dropout(model, draws):
        return torch.cat([torch.stack([model(x).softmax(dim=1) for _ in range(k)]).mean(dim=0) for x in batches])


def boolean_masks() -> AbstractContextManager[object]:
    """Masks as they were before they were drawn as numbers, converted each time they are multiplied with."""

    def kept(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
        bits = words.view(torch.int16)[: x.numel()] >= min(round(p * (1 << 16)), (1 << 16) - 1) - (1 << 15)
        return bits.as_strided(x.shape, x.stride())

    return mock.patch.object(dropout, "_kept", kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--passes", type=int, default=32)
    given = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build("lenet", (1, 28, 28), 10)
    batches = list(torch.randn(given.images, 1, 28, 28).split(given.batch))
    sides: dict[str, Passes] = {
        "split": split_passes,
        "whole": whole_passes,
        "booleans": split_passes_with_booleans,
    }
    seconds = dict.fromkeys(sides, 0.0)
    means: dict[str, list[Tensor]] = {name: [] for name in sides}
    for passes in sides.values():
        passes(model, batches[:1], 2)  # warm
    for batch in batches:
        for name, passes in sides.items():
            start = time.process_time()
            means[name].append(passes(model, [batch], given.passes))
            seconds[name] += time.process_time() - start
    split, whole, booleans = (torch.cat(means[name]) for name in sides)
    scatter = (split - whole).abs().mean()
    assert scatter < 1 / given.passes**0.5, f"mean probabilities differ by {scatter:.3f}"
    assert torch.equal(split, booleans), "the masks differ"
    print(f"split / whole passes: {seconds['split'] / seconds['whole']:.2f} of the time")
    print(f"masks of numbers / of booleans: {seconds['split'] / seconds['booleans']:.2f} of the time of split passes")


if __name__ == "__main__":
    main()
