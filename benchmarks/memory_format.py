"""What weights that are channels last are worth on the CPU, on made-up images.

    python benchmarks/memory_format.py [--model lenet] [--shape 1 28 28] [--batch 100] [--turns 20]

Each figure is a ratio of processor seconds in this run, channels last over contiguous, both sides taking turns.
Gradients of both must agree up to rounding.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fkal.models.modes import evaluating
from fkal.models.registry import build

ROUNDING = 1e-2
"""What float32 sums in another order may leave between gradients, of their length."""


def training(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(x), y).backward()


@torch.no_grad()
def inference(model: nn.Module, x: Tensor, y: Tensor) -> None:
    with evaluating(model):
        model(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--shape", type=int, nargs=3, default=(1, 28, 28))
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--turns", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sides = {}
    for name, memory_format in (("last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        torch.manual_seed(0)
        sides[name] = build(given.model, tuple(given.shape), 10).to(memory_format=memory_format)
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(given.batch, *given.shape, generator=draws), torch.arange(given.batch) % 10
    for work in (training, inference):
        seconds = dict.fromkeys(sides, 0.0)
        for turn in range(given.turns + 1):
            for name, model in sides.items():
                start = time.process_time()
                work(model, x, y)
                seconds[name] += (time.process_time() - start) if turn else 0.0  # the first turn warms
        print(f"{given.model}, {work.__name__}: {seconds['last'] / seconds['contiguous']:.2f} of the time")
    training(sides["last"], x, y)
    training(sides["contiguous"], x, y)
    for ours, theirs in zip(sides["last"].parameters(), sides["contiguous"].parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        apart = float((ours.grad - theirs.grad).norm() / theirs.grad.norm())
        assert apart < ROUNDING, f"gradients differ by {apart:.1e} of their length"


if __name__ == "__main__":
    main()
